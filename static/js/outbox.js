// Submissions that the server has not acknowledged yet, kept in this browser, over a reload too, until it
// has. Sent again with the same key a submission is the same one, so that trying twice hurts nobody.
const PREFIX = 'plackett outbox ';
const LONGEST_WAIT = 60_000;

// Where the browser keeps nothing, it is sent all the same.
export function keep(entry) {
  try {
    localStorage.setItem(PREFIX + entry.id, JSON.stringify(entry));
  } catch (reason) {
    console.warn('a submission cannot be kept in this browser', reason);
  }
}

export function drop(id) {
  localStorage.removeItem(PREFIX + id);
}

// What is kept for an account; somebody else's stays where it is.
export function list(owner) {
  const entries = [];
  for (let n = 0; n < localStorage.length; n += 1) {
    const key = localStorage.key(n);
    if (!key.startsWith(PREFIX)) continue;
    try {
      const entry = JSON.parse(localStorage.getItem(key));
      if (!owner || entry.owner === owner) entries.push(entry);
    } catch {
      localStorage.removeItem(key);
    }
  }
  return entries;
}

// Tries once: sent, refused (it will never be taken as it is), signed out or waiting.
async function send(entry) {
  try {
    const answer = await fetch(entry.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': entry.key },
      body: JSON.stringify(entry.body),
      keepalive: true,
    });
    if (answer.ok) return 'sent';
    if (answer.status === 401) return 'signed-out';
    if (answer.status === 429 || answer.status >= 500) return 'waiting';
    return 'refused';
  } catch {
    return 'waiting';
  }
}

// Tries until the server has answered, with longer and longer waits and at once when the connection comes
// back. `tell` hears how each try ended. Ends with 'stopped' when the signal says so.
export async function deliver(entry, signal, tell = () => {}) {
  for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, LONGEST_WAIT)) {
    const state = await send(entry);
    if (signal.aborted) break;
    if (state === 'sent' || state === 'refused') return state;
    tell(state);
    await pause(wait, signal);
  }
  return 'stopped';
}

// Shaken by chance, so that a room full of labelers does not come back in one moment.
function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms * (0.75 + Math.random() / 2));
    const now = () => { clearTimeout(timer); resolve(); };
    addEventListener('online', now, { once: true, signal });
    signal.addEventListener('abort', now, { once: true });
  });
}

// On every page: sends what an earlier one left behind, but for the task in sight, whose page does it.
const script = document.querySelector('#outbox');
const owner = script?.dataset.owner;

function tellReader(text, kind, ...more) {
  const line = document.createElement('div');
  line.className = `alert ${kind}`;
  line.setAttribute('role', 'status');
  line.append(text, ...more);
  document.querySelector('#main').prepend(line);
  return line;
}

async function sendLeftBehind(entry) {
  let line;
  const tell = (state) => {
    line?.remove();
    line = tellReader(state === 'signed-out' ? script.dataset.signedOut : script.dataset.waiting, 'alert-warn');
  };
  const state = await deliver(entry, new AbortController().signal, tell);
  line?.remove();
  if (state === 'sent') {
    drop(entry.id);
    tellReader(script.dataset.sent, '');
    return;
  }
  const open = document.createElement('a');
  open.href = entry.page;
  open.textContent = script.dataset.open;
  const leave = document.createElement('button');
  leave.type = 'button';
  leave.className = 'small quiet';
  leave.textContent = script.dataset.drop;
  const refused = tellReader(script.dataset.refused, 'alert-error', ' ', open, ' ', leave);
  leave.addEventListener('click', () => { drop(entry.id); refused.remove(); });
}

if (script && owner) {
  const inSight = document.querySelector('form[data-id]')?.dataset.id;
  for (const entry of list(owner)) if (entry.id !== inSight) sendLeftBehind(entry);
} else if (script && list().length) {
  tellReader(script.dataset.signedOut, 'alert-warn');
}
