// Follows a run. Events have numbers and the server sends all after the last one seen, so a broken
// connection loses nothing. Curves, log and progress grow here; the rest is fetched again from the
// server, which is the only one that renders it.
const head = () => document.querySelector('#run-head');
const { addPoint } = await import(head().dataset.chart);
const parts = ['#run-head', '#run-checks', '#run-samples', '#run-charts'];
let timer = 0;

function refreshSoon() {
  clearTimeout(timer);
  timer = setTimeout(refresh, 400);
}

async function refresh() {
  const answer = await fetch(location.pathname, { headers: { accept: 'text/html' } }).catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const part of parts) {
    const [old, next] = [document.querySelector(part), fresh.querySelector(part)];
    if (old && next && !old.contains(document.activeElement)) old.replaceWith(next);
  }
}

function onPhase(data) {
  const progress = document.querySelector('#run-progress');
  if (!progress) return;
  document.querySelector('#run-phase').textContent = data.name;
  document.querySelector('#run-steps').textContent = data.total > 0 ? `${data.step} / ${data.total}` : '';
  progress.value = data.total > 0 ? (100 * data.step) / data.total : 0;
}

function onMetrics(data) {
  for (const [name, value] of Object.entries(data.values)) {
    if (value === null) continue;
    const figure = document.querySelector(`[data-metric="${CSS.escape(name)}"]`);
    if (figure) addPoint(figure, data.step, value);
    else refreshSoon();
  }
}

function onLog(data) {
  const log = document.querySelector('#run-log');
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const time = document.createElement('time');
  time.textContent = new Date(data.at).toISOString().slice(11, 19);
  const line = document.createElement('li');
  line.append(time, ` ${data.message}`);
  log.append(line);
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

if (head().dataset.over !== 'true') {
  const source = new EventSource(`${head().dataset.events}?after=${head().dataset.after}`);
  const on = (kind, act) => source.addEventListener(kind, (event) => act(JSON.parse(event.data)));
  on('phase', onPhase);
  on('metrics', onMetrics);
  on('log', onLog);
  for (const kind of ['status', 'check', 'sample', 'checkpoint']) on(kind, refreshSoon);
  source.addEventListener('end', () => {
    source.close();
    refreshSoon();
  });
}
