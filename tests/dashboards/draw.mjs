// Draws a board with the answers of a real Prometheus, much as Grafana would: a likeness, not Grafana.
// Fails when a title or a number is cut off, panels overlap, or text cannot be told from its ground.
// usage: node draw.mjs BOARD ANSWERS.json PICTURE.png
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { small } from './palette.mjs';
import { page as toPage } from './panels.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(join(here, '../.cache/dashboards/package.json'));
const { chromium } = require('playwright-core');
const [board, answersPath, picture] = process.argv.slice(2);
const dashboard = JSON.parse(readFileSync(join(here, `../../dashboards/${board}.json`), 'utf8'));
const answers = JSON.parse(readFileSync(answersPath, 'utf8'));

const profile = mkdtempSync(join(tmpdir(), 'dashboards-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium', headless: true, viewport: { width: 1600, height: 900 },
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  const page = await browser.newPage();
  await page.setContent(toPage(dashboard, answers));
  const faults = await page.evaluate(() => {
    const found = [];
    for (const element of document.querySelectorAll('[data-whole]')) {
      if (element.scrollWidth > element.clientWidth + 1) found.push(`cut off: ${element.dataset.whole}: ${element.textContent}`);
    }
    const boxes = [...document.querySelectorAll('.panel')].map((panel) => [panel.querySelector('.title').textContent, panel.getBoundingClientRect()]);
    boxes.forEach(([title, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
      if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1) found.push(`overlap: ${title} and ${other}`);
    }));
    // Contrast as WCAG has it: 3 is its bound for large text and for graphics.
    const luminance = (color) => {
      const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      const [r, g, b] = color.match(/[\d.]+/g).map(Number);
      return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    };
    for (const element of document.querySelectorAll('[data-colored]')) {
      const style = getComputedStyle(element);
      let ground = element;
      while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
      const [a, b] = [luminance(style.color), luminance(getComputedStyle(ground).backgroundColor)].sort((x, y) => y - x);
      if ((a + 0.05) / (b + 0.05) < 3) found.push(`unreadable: ${element.textContent}: ${style.color} on ${getComputedStyle(ground).backgroundColor}`);
    }
    return found;
  });
  writeFileSync(picture, small(await page.screenshot({ fullPage: true })));
  if (faults.length) throw new Error(faults.join('\n'));
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
