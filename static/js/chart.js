// Draws a curve into a figure that the server rendered, with the server's geometry.
const [left, right, top, bottom] = [50, 352, 10, 126];

function short(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  const decimals = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 4;
  return value.toFixed(decimals);
}

// Rows of a curve's table, at even distances, as the server chooses them.
const mostRows = 50;

function evenly(points) {
  const n = Math.min(points.length, mostRows);
  return Array.from({ length: n }, (_, index) => points[n === 1 ? 0 : Math.floor((index * (points.length - 1)) / (n - 1))]);
}

function fillTable(figure, points) {
  const rows = evenly(points).map(([step, value]) => {
    const row = document.createElement('tr');
    const head = document.createElement('th');
    head.scope = 'row';
    head.textContent = step;
    row.append(head);
    row.insertCell().textContent = short(value);
    return row;
  });
  figure.querySelector('tbody').replaceChildren(...rows);
}

// A table that nobody sees is not kept up to date, so it is when it is unfolded.
document.addEventListener('toggle', (event) => {
  const figure = event.target.open && event.target.closest('[data-has-grown]');
  if (figure) fillTable(figure, JSON.parse(figure.dataset.points));
}, true);

function share(at, from, to, otherwise) {
  return to > from ? (at - from) / (to - from) : otherwise;
}

// Adds a point, or corrects the one of the same step, and draws the curve again.
export function addPoint(figure, step, value) {
  const points = JSON.parse(figure.dataset.points);
  const known = points.find((point) => point[0] === step);
  if (known) known[1] = value;
  else points.push([step, value]);
  points.sort((a, b) => a[0] - b[0]);
  figure.dataset.points = JSON.stringify(points);
  figure.dataset.hasGrown = '';
  draw(figure, points);
  if (figure.querySelector('details[open]')) fillTable(figure, points);
}

function draw(figure, points) {
  const values = points.map((point) => point[1]);
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const first = points[0][0];
  const last = points.at(-1)[0];
  const places = points.map(([step, value]) => [
    left + (right - left) * share(step, first, last, 0),
    bottom - (bottom - top) * share(value, low, high, 0.5),
  ]);
  const part = (name) => figure.querySelector(name);
  part('.chart-line').setAttribute('points', places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' '));
  const [x, y] = places.at(-1);
  part('.chart-dot').setAttribute('cx', x.toFixed(1));
  part('.chart-dot').setAttribute('cy', y.toFixed(1));
  part('.chart-high').textContent = short(high);
  part('.chart-low').textContent = short(low);
  part('.chart-first').textContent = first;
  part('.chart-last').textContent = last;
  part('output').textContent = short(values.at(-1));
}
