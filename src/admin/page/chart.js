// The last hour, drawn as SVG: one line in each chart, with a title and a description for screen
// readers.

const SVG = 'http://www.w3.org/2000/svg';
const HOUR = 3600000;

function shape(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A round number at or above the value, for the upper end of the scale.
function ceiling(value) {
  if (value <= 5) return 5;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * unit).find((step) => step >= value);
}

class Chart {
  constructor(id, title, unit) {
    this.title = title;
    this.unit = unit;
    this.value = node('b');
    this.svg = shape('svg', { role: 'img', 'aria-labelledby': `${id}-title ${id}-desc` });
    this.name = shape('title', { id: `${id}-title` }, `${title}, last hour`);
    this.description = shape('desc', { id: `${id}-desc` });
    this.drawing = shape('g', {});
    this.svg.append(this.name, this.description, this.drawing);
    this.figure = node('figure', {}, node('figcaption', {}, node('span', { text: title }), this.value));
    this.figure.append(this.svg);
    this.points = [];
    this.svg.addEventListener('pointermove', (event) => this.point(event));
    this.svg.addEventListener('pointerleave', () => this.show());
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  // `points` are [time, value], the oldest first; `bound` is drawn as a broken line.
  set(points, bound) {
    this.points = points;
    this.bound = bound;
    this.draw();
  }

  show(point = this.points.at(-1), at = false) {
    setText(this.value, point ? `${at ? `${clock(point[0])}: ` : ''}${decimal(point[1])}${this.unit}` : '–');
  }

  point(event) {
    if (!this.points.length) return;
    const time = this.from + ((event.offsetX - this.left) / (this.width - this.left)) * HOUR;
    const nearest = this.points.reduce((best, point) => (Math.abs(point[0] - time) < Math.abs(best[0] - time) ? point : best));
    this.show(nearest, true);
  }

  draw() {
    this.width = this.svg.clientWidth || 300;
    const height = 120;
    const bottom = height - 18;
    this.from = now() - HOUR;
    this.svg.setAttribute('viewBox', `0 0 ${this.width} ${height}`);
    const values = this.points.map(([, value]) => value);
    const top = ceiling(Math.max(1, ...values, this.bound ?? 0));
    this.left = 8 + 7 * number(top).length;
    const x = (time) => this.left + Math.max(0, (time - this.from) / HOUR) * (this.width - this.left - 6);
    const y = (value) => bottom - (value / top) * (bottom - 8);
    const parts = [];
    for (const value of [0, top / 2, top]) {
      parts.push(shape('line', { class: 'grid', x1: this.left, x2: this.width, y1: y(value), y2: y(value) }));
      if (value !== top / 2) parts.push(shape('text', { x: this.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, number(value)));
    }
    for (const [minutes, anchor] of [[60, 'start'], [30, 'middle'], [0, 'end']]) {
      const time = this.from + (60 - minutes) * 60000;
      parts.push(shape('text', { x: minutes ? x(time) : this.width, y: height - 3, 'text-anchor': anchor }, minutes ? clock(time) : 'now'));
    }
    if (this.bound !== undefined) parts.push(shape('line', { class: 'bound', x1: this.left, x2: this.width, y1: y(this.bound), y2: y(this.bound) }));
    if (this.points.length) {
      const path = this.points.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`).join('L');
      const [first, last] = [this.points[0], this.points.at(-1)];
      parts.push(shape('path', { class: 'area', d: `M${x(first[0]).toFixed(1)},${bottom}L${path}L${x(last[0]).toFixed(1)},${bottom}Z` }));
      parts.push(shape('path', { class: 'line', d: `M${path}` }));
      parts.push(shape('circle', { class: 'mark', cx: x(last[0]), cy: y(last[1]), r: 4 }));
    }
    this.drawing.replaceChildren(...parts);
    const bound = this.bound === undefined ? '' : ` The limit is ${number(this.bound)}.`;
    setText(this.description, this.points.length
      ? `Now ${decimal(values.at(-1))}${this.unit}, at ${clock(this.points[0][0])} ${decimal(values[0])}, lowest ${decimal(Math.min(...values))}, highest ${decimal(Math.max(...values))}.${bound}`
      : 'No points yet.');
    this.show();
  }
}

const charts = {
  backlog: new Chart('chart-backlog', 'Backlog', ''),
  running: new Chart('chart-running', 'In flight', ''),
  done: new Chart('chart-done', 'Done', ' per min'),
};
byId('charts').append(charts.backlog.figure, charts.running.figure, charts.done.figure);

// Items done in each minute, from the running total. A restart of the bridge begins again with 0.
function rates(history) {
  const rate = [];
  let from = history[0];
  for (const sample of history.slice(1)) {
    const minutes = (sample.time - from.time) / 60000;
    if (minutes < 0.9) continue;
    rate.push([sample.time, Math.max(0, sample.done - from.done) / minutes]);
    from = sample;
  }
  return rate;
}

function showHistory(pipeline) {
  const history = pipeline.history.map((sample) => ({ ...sample, time: Date.parse(sample.at) }));
  byId('charts').hidden = history.length < 2;
  byId('hour-details').hidden = history.length < 2;
  byId('no-history').hidden = history.length >= 2;
  if (history.length < 2) return;
  charts.backlog.set(history.map((sample) => [sample.time, sample.backlog]));
  charts.running.set(history.map((sample) => [sample.time, sample.running]), pipeline.limit.ceiling);
  charts.done.set(rates(history));
  const rows = [];
  let last = Infinity;
  for (const sample of history.toReversed()) {
    if (last - sample.time < 4.9 * 60000) continue;
    last = sample.time;
    rows.push(node('tr', {}, node('th', { scope: 'row', text: clock(sample.time) }),
      ...[sample.backlog, sample.running, sample.held, sample.done, sample.failed].map((value) => node('td', { text: number(value) }))));
  }
  byId('hour-rows').replaceChildren(...rows);
}
