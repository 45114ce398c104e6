// HTML and SVG of a classic Grafana dashboard with answers filled in: the panel types, transformations,
// mappings and units that dashboards/ uses, and no others; what it does not know it refuses.

const COLORS = { green: '#73bf69', red: '#f2495c', orange: '#ff9830', yellow: '#fade2a', blue: '#5794f2', purple: '#b877d9', text: '#ccccdc' };
const PALETTE = ['#7eb26d', '#eab839', '#6ed0e0', '#ef843c', '#e24d42', '#1f78c1', '#ba43a9', '#705da0', '#508642', '#cca300'];
const GRID = { width: 1576, row: 38, gap: 8 };
const color = (name) => COLORS[name] ?? (name?.startsWith('#') || name?.startsWith('rgb') ? name : refuse(`color ${name}`));
const refuse = (what) => { throw new Error(`the drawing does not know ${what}`); };
const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

// ---- values
const round = (v, decimals) => {
  const digits = decimals ?? (Math.abs(v) >= 100 || Number.isInteger(v) ? 0 : Math.abs(v) >= 1 ? 1 : 2);
  return v.toFixed(digits).replace(/(\.\d*?)0+$/, decimals === undefined ? '$1' : '$&').replace(/\.$/, '');
};
const scaled = (v, base, names, decimals) => {
  let i = 0;
  while (Math.abs(v) >= base && i < names.length - 1) { v /= base; i++; }
  return `${round(v, i ? decimals ?? 1 : decimals)}${names[i]}`;
};
function format(v, { unit = 'none', decimals }, now) {
  if (v === null || v === undefined || Number.isNaN(v)) return '';
  switch (unit) {
    case 'none': return round(v, decimals);
    case 'short': return scaled(v, 1000, ['', ' K', ' Mil', ' Bil'], decimals);
    case 'percentunit': return `${round(v * 100, decimals)}%`;
    case 'bytes': return scaled(v, 1024, [' B', ' KiB', ' MiB', ' GiB', ' TiB'], decimals);
    case 'cps': return `${round(v, decimals)} c/s`;
    case 's': return v < 60 ? `${round(v, decimals)} s` : v < 3600 ? `${round(v / 60, 1)} mins` : v < 86400 ? `${round(v / 3600, 1)} hours` : `${round(v / 86400, 1)} days`;
    case 'dateTimeFromNow': {
      const s = now - v / 1000;
      const say = (n, word) => (Math.round(n) === 1 ? `${word === 'hour' ? 'an' : 'a'} ${word} ago` : `${Math.round(n)} ${word}s ago`);
      return s < 45 ? 'a few seconds ago' : s < 2700 ? say(s / 60, 'minute') : s < 79200 ? say(s / 3600, 'hour') : say(s / 86400, 'day');
    }
    default: return refuse(`unit ${unit}`);
  }
}
const mapped = (v, config) => {
  for (const mapping of config.mappings ?? []) {
    if (mapping.type === 'special') continue; // only what is no number: see stat()
    if (mapping.type !== 'value') refuse(`mapping ${mapping.type}`);
    const hit = mapping.options[String(v)];
    if (hit) return hit;
  }
  return undefined;
};
const threshold = (v, config) => (config.thresholds?.steps ?? []).filter((step) => step.value === null || v >= step.value).at(-1)?.color ?? 'text';
const display = (v, config, now) => {
  const hit = mapped(v, config);
  return { text: hit?.text ?? (typeof v === 'string' ? v : format(v, config, now)), color: hit?.color ?? (typeof v === 'number' ? threshold(v, config) : 'text') };
};
const configOf = (panel, name) => {
  const config = { ...panel.fieldConfig.defaults, custom: { ...panel.fieldConfig.defaults.custom } };
  for (const { matcher, properties } of panel.fieldConfig.overrides) {
    const [, body] = matcher.id === 'byRegexp' ? matcher.options.match(/^\/(.*)\/$/) : [];
    const hit = matcher.id === 'byName' ? matcher.options === name : matcher.id === 'byRegexp' ? new RegExp(body).test(name) : refuse(`matcher ${matcher.id}`);
    if (hit) for (const { id, value } of properties) id.startsWith('custom.') ? (config.custom[id.slice(7)] = value) : (config[id] = value);
  }
  return config;
};
const legend = (series, target) => ((target.legendFormat ?? '__auto') === '__auto' ? Object.entries(series.metric).filter(([k]) => k !== '__name__').map(([k, v]) => `${k}="${v}"`).join(', ')
  : target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => series.metric[label] ?? '')).trim();
const number = (text) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

// ---- panels
const empty = (panel) => `<div class="empty">${escape(panel.fieldConfig.defaults.noValue ?? 'No data')}</div>`;

function stat(panel, answers, now) {
  const all = panel.targets.flatMap((target) => (answers[target.refId] ?? []).map((series) => [legend(series, target), series]));
  const named = panel.options.textMode === 'value_and_name';
  if (all.length > 1 && !named) refuse('values without a name');
  const room = (GRID.width / 24) * panel.gridPos.w - 40;
  const blocks = (all.length ? all : [['', undefined]]).map(([name, series]) => {
    const config = configOf(panel, name);
    const point = series && (series.value ?? series.values.at(-1));
    const shown = point ? display(number(point[1]), config, now) : config.mappings.find(({ type }) => type === 'special').options.result;
    const words = named && name ? `<small>${escape(name)}</small>` : '';
    const height = (panel.gridPos.h * 11) / (all.length > 1 ? 1.6 : 1);
    const size = Math.min(34, height, Math.floor((room - words.length * 1.5) / Math.max(2, shown.text.length) / 0.6));
    // Dark text on the bright grounds of Grafana's palette, as Grafana chooses it by contrast.
    const paint = panel.options.colorMode === 'value' ? `color:${color(shown.color)}` : `background:${color(shown.color)};color:#1b1c21`;
    return `<div class="stat" data-colored data-whole="value of ${escape(panel.title)}" style="${paint};font-size:${size}px">${words}${escape(shown.text)}</div>`;
  });
  return `<div class="stats">${blocks.join('')}</div>`;
}

function rows(panel, answers) {
  let table = [];
  const merge = panel.transformations.some(({ id }) => id === 'merge');
  const answered = panel.targets.map((target) => answers[target.refId] ?? []).filter((series) => series.length);
  const columns = answered.map((series) => new Set(series.flatMap(({ metric }) => Object.keys(metric))));
  const shared = [...(columns[0] ?? [])].filter((name) => name !== '__name__' && columns.every((has) => has.has(name)));
  for (const target of panel.targets) {
    const column = panel.targets.length > 1 ? `Value #${target.refId}` : 'Value';
    for (const series of answers[target.refId] ?? []) {
      const { __name__, ...labels } = series.metric;
      const row = { ...labels, [column]: number(series.value[1]) };
      // Grafana's merge: rows that agree in every column that all answers have become one.
      const same = merge && table.find((other) => !(column in other) && shared.every((name) => other[name] === labels[name]));
      if (same) Object.assign(same, row); else table.push(row);
    }
  }
  return table;
}

function table(panel, answers, now) {
  const data = rows(panel, answers);
  if (!data.length) return empty(panel);
  const { excludeByName, indexByName, renameByName } = panel.transformations.find(({ id }) => id === 'organize').options;
  const names = [...new Set(data.flatMap(Object.keys))].filter((name) => !excludeByName[name])
    .sort((a, b) => (indexByName[a] ?? 99) - (indexByName[b] ?? 99));
  const columns = names.map((name) => ({ name, title: renameByName[name] ?? name, config: configOf(panel, renameByName[name] ?? name) }));
  for (const { displayName, desc } of [...(panel.options.sortBy ?? [])].reverse()) {
    const key = columns.find(({ title }) => title === displayName)?.name;
    const order = (a, b) => (typeof a === 'number' && typeof b === 'number' ? a - b : String(a ?? '').localeCompare(String(b ?? ''), 'en', { numeric: true }));
    data.sort((a, b) => (desc ? -1 : 1) * order(a[key], b[key]));
  }
  const head = columns.map(({ title, config }) => `<th style="${config.custom.width ? `width:${config.custom.width}px` : ''}"><div data-whole="column">${escape(title)}</div></th>`).join('');
  const body = data.map((row) => `<tr>${columns.map(({ name, config }) => {
    const shown = display(row[name] ?? '', config, now);
    const type = config.custom.cellOptions?.type;
    const paint = type === 'color-background' && shown.text ? `background:${color(shown.color)};color:#1b1c21` : type === 'color-text' ? `color:${color(shown.color)}` : '';
    return `<td ${paint ? 'data-colored' : ''} style="${paint}"><div data-whole="cell" class="${config.links?.length ? 'link' : ''}">${escape(shown.text)}</div></td>`;
  }).join('')}</tr>`).join('');
  return `<table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table>`;
}

const time = (t) => new Date(t * 1000).toISOString().slice(11, 16);
function axis({ start, end }, left, right, top, bottom) {
  const all = [60, 120, 300, 600, 1800, 3600];
  const step = all.find((s) => (end - start) / s <= 8) ?? 3600;
  const at = (t) => left + ((t - start) / (end - start)) * (right - left);
  let svg = '';
  for (let t = Math.ceil(start / step) * step; t <= end; t += step) {
    if (at(t) > right - 12 || at(t) < left + 12) continue;
    svg += `<line x1="${at(t)}" y1="${top}" x2="${at(t)}" y2="${bottom}" class="grid"/><text x="${at(t)}" y="${bottom + 15}" text-anchor="middle">${time(t)}</text>`;
  }
  return { at, svg };
}
const size = (panel) => ({ width: Math.floor((GRID.width / 24) * panel.gridPos.w) - GRID.gap - 18, height: panel.gridPos.h * GRID.row - GRID.gap - 40 });

function annotations(dashboard, answers, at, top, bottom) {
  let svg = '';
  for (const annotation of dashboard.annotations.list) {
    if (annotation.builtIn || !annotation.enable) continue;
    const seen = new Set();
    for (const series of answers.annotations[annotation.name] ?? []) {
      let last = -Infinity;
      for (const [t, v] of series.values) {
        const when = annotation.useValueForTime ? Number(v) / 1000 : t;
        const begins = annotation.useValueForTime ? !seen.has(when) : t - last > answers.step;
        last = t;
        seen.add(when);
        if (!begins || when < answers.start || when > answers.end) continue;
        const x = at(when);
        svg += `<line x1="${x}" y1="${top}" x2="${x}" y2="${bottom}" stroke="${color(annotation.iconColor)}" stroke-dasharray="3 3"/><path d="M${x - 4} ${bottom + 5}h8l-4 -6z" fill="${color(annotation.iconColor)}"/>`;
      }
    }
  }
  return svg;
}

function collect(panel, answers) {
  return panel.targets.flatMap((target) => (answers[target.refId] ?? []).map((series) => {
    const name = legend(series, target);
    return { name, config: configOf(panel, name), points: (series.values ?? []).map(([t, v]) => [t, number(v)]) };
  }));
}

function timeline(panel, answers, dashboard, whole) {
  const all = collect(panel, answers);
  if (!all.length) return empty(panel);
  const { width, height } = size(panel);
  const left = 10 + Math.max(...all.map(({ name }) => name.length)) * 6.6;
  const bottom = height - 20;
  const { at, svg } = axis(whole, left, width - 6, 0, bottom);
  const row = Math.min(40, bottom / all.length);
  let out = svg;
  if (row < 15) refuse(`${all.length} rows in ${panel.title}`);
  all.forEach(({ name, config, points }, i) => {
    const top = i * row + row * 0.1;
    out += `<text x="${left - 6}" y="${top + row * 0.4 + 4}" text-anchor="end">${escape(name)}</text>`;
    for (let p = 0; p < points.length;) {
      let q = p;
      while (q + 1 < points.length && points[q + 1][1] === points[p][1] && points[q + 1][0] - points[q][0] <= whole.step * 1.5) q++;
      const next = points[q + 1] && points[q + 1][0] - points[q][0] <= whole.step * 1.5 ? points[q + 1][0] : points[q][0];
      const shown = display(points[p][1], config);
      const [x, w] = [at(points[p][0]), Math.max(1, at(next) - at(points[p][0]))];
      out += `<rect x="${x}" y="${top}" width="${w}" height="${row * 0.8}" fill="${color(shown.color)}" fill-opacity="${config.custom.fillOpacity / 100}"/>`;
      if (w > shown.text.length * 7 + 6) out += `<text x="${x + w / 2}" y="${top + row * 0.4 + 4}" text-anchor="middle" class="on">${escape(shown.text)}</text>`;
      p = q + 1;
    }
  });
  return `<svg width="${width}" height="${height}">${out}${annotations(dashboard, whole, at, 0, bottom)}</svg>`;
}

function nice(max) {
  if (!(max > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(max));
  return [1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10].map((m) => m * power).find((m) => m >= max * 0.999);
}

function timeseries(panel, answers, dashboard, whole) {
  const all = collect(panel, answers);
  if (!all.length) return empty(panel);
  all.forEach((s, i) => (s.paint = s.config.color.mode === 'fixed' ? color(s.config.color.fixedColor) : PALETTE[i % PALETTE.length]));
  const { width } = size(panel);
  const letters = all.reduce((sum, { name }) => sum + name.length * 6.6 + 30, 0);
  const lines = Math.ceil(letters / width);
  const height = size(panel).height - lines * 18;
  const bottom = height - 20;
  const step = whole.step;
  // Stacked: each series lies on the sum of those before it.
  const below = new Map();
  for (const s of all) {
    s.right = s.config.custom.axisPlacement === 'right';
    s.stacked = s.config.custom.stacking.mode === 'normal';
    s.area = s.points.filter(([, v]) => Number.isFinite(v)).map(([t, v]) => {
      const base = s.stacked ? below.get(t) ?? 0 : 0;
      if (s.stacked) below.set(t, base + v);
      return [t, base, base + v];
    });
  }
  const scale = (side) => {
    const mine = all.filter((s) => s.right === side);
    if (!mine.length) return undefined;
    const highest = Math.max(...mine.flatMap((s) => s.area.map(([, , v]) => v)), 0);
    const config = mine[0].config;
    const bytes = config.unit === 'bytes';
    let max = config.max ?? (bytes ? nice(highest * 1.02 / 2 ** (10 * Math.floor(Math.log2(Math.max(highest, 1)) / 10))) * 2 ** (10 * Math.floor(Math.log2(Math.max(highest, 1)) / 10)) : nice(highest * 1.02));
    if (config.decimals === 0 && config.unit === 'short') max = Math.max(4 * Math.ceil(max / 4), 4);
    return { max, config, y: (v) => bottom - (v / max) * (bottom - 6) };
  };
  const [leftScale, rightScale] = [scale(false), scale(true)];
  const [left, right] = [58, width - (rightScale ? 58 : 6)];
  const { at, svg } = axis(whole, left, right, 6, bottom);
  let out = svg;
  for (let i = 0; i <= 4; i++) {
    const y = bottom - (i / 4) * (bottom - 6);
    out += `<line x1="${left}" y1="${y}" x2="${right}" y2="${y}" class="grid"/>`;
    if (leftScale) out += `<text x="${left - 6}" y="${y + 4}" text-anchor="end">${format((leftScale.max * i) / 4, leftScale.config)}</text>`;
    if (rightScale) out += `<text x="${right + 6}" y="${y + 4}">${format((rightScale.max * i) / 4, rightScale.config)}</text>`;
  }
  if (panel.fieldConfig.defaults.custom.thresholdsStyle.mode !== 'off') {
    for (const step of panel.fieldConfig.defaults.thresholds.steps) {
      if (step.value !== null && step.value <= leftScale.max) out += `<line x1="${left}" x2="${right}" y1="${leftScale.y(step.value)}" y2="${leftScale.y(step.value)}" stroke="${color(step.color)}" stroke-dasharray="6 4"/>`;
    }
  }
  for (const s of all) {
    const { y } = s.right ? rightScale : leftScale;
    const { drawStyle, fillOpacity, lineStyle } = s.config.custom;
    if (drawStyle === 'bars') {
      for (const [t, from, to] of s.area) if (to > from) out += `<rect x="${at(t) - 1}" width="3" y="${y(to)}" height="${Math.max(1, y(from) - y(to))}" fill="${s.paint}"/>`;
      continue;
    }
    // Runs without a gap, in steps.
    for (let p = 0; p < s.area.length;) {
      let q = p;
      while (q + 1 < s.area.length && s.area[q + 1][0] - s.area[q][0] <= step * 1.5) q++;
      const run = s.area.slice(p, q + 1);
      const upper = run.map(([t, , v], i) => (i ? `H${at(t)}V${y(v)}` : `M${at(t)} ${y(v)}`)).join('');
      const lower = [...run].reverse().map(([t, v], i) => (i ? `V${y(v)}H${at(t)}` : `L${at(t)} ${y(v)}`)).join('');
      if (fillOpacity) out += `<path d="${upper}${lower}z" fill="${s.paint}" fill-opacity="${fillOpacity / 100}"/>`;
      out += `<path d="${upper}" fill="none" stroke="${s.paint}" stroke-width="${s.config.custom.lineWidth * 1.5}" ${lineStyle?.fill === 'dash' ? `stroke-dasharray="${lineStyle.dash.join(' ')}"` : ''}/>`;
      p = q + 1;
    }
  }
  const names = all.map((s) => `<span data-whole="legend"><i style="background:${s.paint}"></i>${escape(s.name)}</span>`).join('');
  return `<svg width="${width}" height="${height}">${out}${annotations(dashboard, whole, at, 6, bottom)}</svg><div class="legend">${names}</div>`;
}

export function page(dashboard, answers) {
  const cell = GRID.width / 24;
  let high = 0;
  const panels = dashboard.panels.map((panel) => {
    const { x, y, w, h } = panel.gridPos;
    high = Math.max(high, (y + h) * GRID.row);
    const mine = answers.panels[panel.id];
    const body = { stat: () => stat(panel, mine, answers.end), table: () => table(panel, mine, answers.end), 'state-timeline': () => timeline(panel, mine, dashboard, answers), timeseries: () => timeseries(panel, mine, dashboard, answers) }[panel.type] ?? refuse(`panel ${panel.type}`);
    return `<div class="panel" style="left:${x * cell}px;top:${y * GRID.row}px;width:${w * cell - GRID.gap}px;height:${h * GRID.row - GRID.gap}px"><div class="title" data-whole="title">${escape(panel.title)}</div><div class="body">${body()}</div></div>`;
  });
  const variables = dashboard.templating.list.filter(({ type, hide }) => type === 'query' && hide !== 2).map(({ name, label, includeAll }) => {
    const chosen = answers.choice[name]?.join(' + ') ?? (includeAll ? 'All' : answers.variables[name][0]);
    return `<b>${escape(label)}</b><em>${escape(chosen)}</em>`;
  });
  const toggles = dashboard.annotations.list.filter(({ builtIn }) => !builtIn).map(({ name, enable, iconColor }) => `<b style="color:${color(iconColor)}">${enable ? '●' : '○'} ${escape(name)}</b>`);
  const links = dashboard.links.map(({ title }) => `<b class="link">${escape(title)}</b>`);
  return `<!doctype html><meta charset="utf-8"><style>
    * { box-sizing: border-box } body { margin: 12px; width: ${GRID.width}px; background: #111217; color: #ccccdc; font: 13px 'Liberation Sans', Arial, sans-serif }
    h1 { font-size: 18px; margin: 0 0 10px } .bar { display: flex; gap: 4px; margin-bottom: 12px; align-items: center }
    .bar b { padding: 5px 8px; background: #22252b; font-weight: 500; font-size: 12px } .bar em { padding: 5px 10px; border: 1px solid #34373f; font-style: normal; margin-right: 8px; font-size: 12px }
    .bar .link, td .link { color: #6e9fff; text-decoration: underline } .bar .push { flex: 1 }
    .board { position: relative; height: ${high}px } .panel { position: absolute; background: #181b1f; border: 1px solid #24262c; border-radius: 3px; overflow: hidden; padding: 6px 8px }
    .title { font-weight: 600; height: 22px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; font-size: 13px } .body { position: absolute; top: 30px; bottom: 6px; left: 8px; right: 8px; overflow: hidden }
    .stats { height: 100%; display: flex; flex-direction: column; gap: 3px } .stat small { font-size: 12px; font-weight: 500; margin-right: 8px }
    .stat { flex: 1; display: flex; align-items: center; justify-content: center; font-weight: 600; border-radius: 2px; white-space: nowrap; overflow: hidden } .empty { height: 100%; display: flex; align-items: center; justify-content: center; color: #9fa0ab; font-size: 16px; text-align: center }
    table { border-collapse: collapse; width: 100%; table-layout: fixed; font-size: 12.5px } th { color: #6e9fff; text-align: left; padding: 4px 6px; font-weight: 500 } td { padding: 4px 6px; border-top: 1px solid #2a2d34 }
    th div, td div { white-space: nowrap; overflow: hidden; text-overflow: ellipsis } svg text { fill: #b0b2bd; font-size: 11px } svg .on { fill: #111217; font-weight: 600 } .grid { stroke: #2a2d34 }
    .legend { display: flex; flex-wrap: wrap; gap: 0 14px; font-size: 12px; line-height: 18px } .legend i { display: inline-block; width: 12px; height: 4px; margin-right: 5px; vertical-align: middle }
    </style><h1>${escape(dashboard.title)}</h1><div class="bar">${variables.join('')}<span class="push"></span>${toggles.join('')}${links.join('')}</div><div class="board">${panels.join('')}</div>`;
}
