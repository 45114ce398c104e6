// Makes a PNG of Chromium's small: 256 colours instead of all. A picture of a page has few, and shades of letters.
// usage: node palette.mjs PICTURE.png…
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { crc32, deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);

/** Width, height and pixels (three bytes each) of a PNG with 8 bits a channel that is not interlaced. */
function decode(file) {
  const header = file.subarray(16, 29);
  const [width, height, depth, type, interlaced] = [header.readUInt32BE(0), header.readUInt32BE(4), header[8], header[9], header[12]];
  const channels = { 2: 3, 6: 4 }[type];
  if (depth !== 8 || !channels || interlaced) throw new Error(`not a PNG as Chromium writes it: ${depth} bits, type ${type}`);
  const data = [];
  for (let at = 8; at < file.length;) {
    const length = file.readUInt32BE(at);
    if (file.toString('latin1', at + 4, at + 8) === 'IDAT') data.push(file.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  const pixels = Buffer.alloc(width * height * 3);
  let above = Buffer.alloc(stride);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (stride + 1)];
    const line = Buffer.from(raw.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1)));
    for (let x = 0; x < stride; x += 1) {
      const [left, up, corner] = [x < channels ? 0 : line[x - channels], above[x], x < channels ? 0 : above[x - channels]];
      if (filter === 1) line[x] += left;
      else if (filter === 2) line[x] += up;
      else if (filter === 3) line[x] += (left + up) >> 1;
      else if (filter === 4) {
        const guess = left + up - corner;
        const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
        line[x] += a <= b && a <= c ? left : b <= c ? up : corner;
      }
    }
    for (let x = 0; x < width; x += 1) line.copy(pixels, (y * width + x) * 3, x * channels, x * channels + 3);
    above = line;
  }
  return { width, height, pixels };
}

/** At most `most` colours for these, each given as [colour, count]: the largest box is halved again and again. */
function palette(colours, most) {
  const channel = (colour, which) => (colour >> (16 - 8 * which)) & 255;
  const boxOf = (members) => {
    const spans = [0, 1, 2].map((which) => {
      const values = members.map(([colour]) => channel(colour, which));
      return values.reduce((a, b) => Math.max(a, b)) - values.reduce((a, b) => Math.min(a, b));
    });
    const widest = spans.indexOf(Math.max(...spans));
    const count = members.reduce((sum, [, number]) => sum + number, 0);
    return { members, widest, weight: spans[widest] * Math.sqrt(count) };
  };
  const boxes = [boxOf(colours)];
  while (boxes.length < most) {
    const place = boxes.reduce((best, box, at) => (box.weight > boxes[best].weight ? at : best), 0);
    const { members, widest, weight } = boxes[place];
    if (weight === 0) break;
    members.sort(([a], [b]) => channel(a, widest) - channel(b, widest));
    const low = channel(members[0][0], widest);
    const middle = (low + channel(members.at(-1)[0], widest)) / 2;
    const cut = members.findIndex(([colour]) => channel(colour, widest) > middle);
    boxes.splice(place, 1, boxOf(members.slice(0, cut)), boxOf(members.slice(cut)));
  }
  // The commonest colour of a box stands for it, so that grounds stay exactly as they are.
  const table = boxes.map(({ members }) => members.reduce((best, one) => (one[1] > best[1] ? one : best))[0]);
  return { table, index: new Map(boxes.flatMap(({ members }, at) => members.map(([colour]) => [colour, at]))) };
}

function chunk(name, content) {
  const [head, tail] = [Buffer.alloc(8), Buffer.alloc(4)];
  head.writeUInt32BE(content.length, 0);
  head.write(name, 4, 'latin1');
  tail.writeUInt32BE(crc32(Buffer.concat([head.subarray(4), content])), 0);
  return Buffer.concat([head, content, tail]);
}

/** The PNG with at most 256 colours. */
export function small(file) {
  const { width, height, pixels } = decode(file);
  const counts = new Map();
  for (let at = 0; at < pixels.length; at += 3) {
    const colour = pixels.readUIntBE(at, 3);
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const { table, index } = palette([...counts], 256);
  const lines = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      lines[y * (width + 1) + 1 + x] = index.get(pixels.readUIntBE((y * width + x) * 3, 3));
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3, 0, 0, 0], 8);
  const colours = Buffer.from(table.flatMap((colour) => [colour >> 16, (colour >> 8) & 255, colour & 255]));
  const data = deflateSync(lines, { level: 9, memLevel: 9 });
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('PLTE', colours), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))]);
}

if (basename(process.argv[1]) === 'palette.mjs') {
  for (const path of process.argv.slice(2)) writeFileSync(path, small(readFileSync(path)));
}
