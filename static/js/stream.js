// Follows a run. Events have numbers and the server sends all after the last one seen, so a broken
// connection loses nothing. Curves, log and progress grow here; the rest is fetched again from the
// server, which is the only one that renders it.
const head = () => document.querySelector('#run-head');
const { addPoint } = await import(head().dataset.chart);
const parts = ['#run-head', '#run-headlines', '#run-report', '#run-samples', '#run-charts', '#run-over-optimisation', '#run-figures', '#run-checks', '#run-about'];
let timer = 0;
// What arrives while the page is fetched again: the fetched parts may be older than it.
let missed = null;

function refreshSoon() {
  clearTimeout(timer);
  timer = setTimeout(refresh, 400);
}

async function refresh() {
  if (missed) {
    refreshSoon();
    return;
  }
  missed = [];
  try {
    await replaceParts();
  } finally {
    missed = null;
  }
}

async function replaceParts() {
  const answer = await fetch(location.pathname, { headers: { accept: 'text/html' } }).catch(() => null);
  if (!answer?.ok) return;
  const text = await answer.text().catch(() => null);
  if (text === null) return;
  const fresh = new DOMParser().parseFromString(text, 'text/html');
  const after = Number(fresh.querySelector('#run-head')?.dataset.after);
  for (const part of parts) {
    const [old, next] = [document.querySelector(part), fresh.querySelector(part)];
    if (!old || !next) continue;
    if (old.contains(document.activeElement)) {
      // Replacing it would throw the focus away, so it waits until the focus leaves.
      old.addEventListener('focusout', refreshSoon, { once: true });
      continue;
    }
    // What the reader has unfolded stays so.
    for (const open of old.querySelectorAll('details[id][open]')) {
      next.querySelector(`#${open.id}`)?.setAttribute('open', '');
    }
    old.replaceWith(next);
  }
  // Acting on an event twice changes nothing, so parts that were kept may hear it again.
  for (const event of missed) {
    if (event.number > after) event.act(event.data);
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
    for (const headline of document.querySelectorAll(`[data-follows="${CSS.escape(name)}"]`)) {
      headline.textContent = value.toFixed(3);
    }
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

// Each kind of event, what it does, and whether a refresh may take that away again.
const kinds = [
  ['phase', onPhase, true],
  ['metrics', onMetrics, true],
  ['log', onLog, false],
  ...['status', 'check', 'sample', 'report', 'checkpoint'].map((kind) => [kind, refreshSoon, false]),
];

function follow(after, wait) {
  const source = new EventSource(`${head().dataset.events}?after=${after}`);
  for (const [kind, act, isLost] of kinds) {
    source.addEventListener(kind, (event) => {
      after = Number(event.lastEventId);
      const data = JSON.parse(event.data);
      act(data);
      if (isLost) missed?.push({ number: after, act, data });
    });
  }
  source.addEventListener('open', () => {
    wait = 1000;
  });
  source.addEventListener('end', () => {
    source.close();
    refreshSoon();
  });
  // A browser opens a broken stream again by itself, but not one that was answered with an error,
  // as a proxy does while the server starts anew.
  source.addEventListener('error', () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, wait, after, Math.min(2 * wait, 60_000));
  });
}

if (head().dataset.over !== 'true') follow(Number(head().dataset.after), 1000);
