// What the server has not acknowledged yet, kept in this browser, over a reload and a closed window too, until
// it has: submissions, and drafts that could not be saved. A submission that is sent again with the same key is
// the same one, and a draft that is there already conflicts with nothing, so that trying twice hurts nobody.
import { ask, fill } from './page.js';

const LONGEST_WAIT = 60_000;
// Their names have stood for submissions since before drafts were kept.
const PREFIXES = { submission: 'plackett outbox ', draft: 'plackett draft ' };
const nameOf = (kind, id) => PREFIXES[kind] + id;

// Where the browser keeps nothing, it is sent all the same.
export function keep(kind, entry) {
  try {
    localStorage.setItem(nameOf(kind, entry.id), JSON.stringify(entry));
  } catch (reason) {
    console.warn('this cannot be kept in this browser', reason);
  }
}

export function drop(kind, id) {
  localStorage.removeItem(nameOf(kind, id));
}

// What is kept for an account; somebody else's stays where it is.
export function list(kind, owner) {
  const entries = [];
  for (let n = 0; n < localStorage.length; n += 1) {
    const key = localStorage.key(n);
    if (!key.startsWith(PREFIXES[kind])) continue;
    try {
      const entry = JSON.parse(localStorage.getItem(key));
      if (!owner || entry.owner === owner) entries.push(entry);
    } catch {
      localStorage.removeItem(key);
    }
  }
  return entries;
}

export function findKept(kind, owner, id) {
  return list(kind, owner).find((entry) => entry.id === id);
}

// Tries once. The state is sent, refused (it will never be taken as it is), signed-out or waiting.
async function send({ method = 'POST', url, key, body }) {
  try {
    const answer = await ask(method, url, body, key ? { 'idempotency-key': key } : {});
    if (answer.ok) return { state: 'sent', said: await answer.json() };
    if (answer.status === 401) return { state: 'signed-out' };
    if (answer.status === 429 || answer.status >= 500) return { state: 'waiting' };
    return { state: 'refused' };
  } catch {
    return { state: 'waiting' };
  }
}

// Tries until the server has answered, with longer and longer waits and at once when the connection comes
// back. `tell` hears how each try ended. Ends with 'stopped' when the signal says so.
export async function deliver(entry, signal, tell = () => {}) {
  for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, LONGEST_WAIT)) {
    const tried = await send(entry);
    if (signal.aborted) break;
    if (tried.state === 'sent' || tried.state === 'refused') return tried;
    tell(tried.state);
    await pause(wait, signal);
  }
  return { state: 'stopped' };
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
  (document.querySelector('#notices') ?? document.querySelector('#main')).prepend(line);
  return line;
}

function linkTo(address, text) {
  const link = document.createElement('a');
  link.href = address;
  link.textContent = text;
  return link;
}

async function sendLeftBehind(kind, entry) {
  const isDraft = kind === 'draft';
  let line;
  const tell = (state) => {
    line?.remove();
    // A draft is no more than what its page shows when it is opened again.
    if (isDraft) return;
    line = tellReader(state === 'signed-out' ? script.dataset.signedOut : script.dataset.waiting, 'alert-warn');
  };
  const { state } = await deliver(entry, new AbortController().signal, tell);
  line?.remove();
  const kept = findKept(kind, owner, entry.id);
  // Another window goes on with it.
  if (JSON.stringify(kept) !== JSON.stringify(entry)) return;
  if (state === 'sent') {
    drop(kind, entry.id);
    if (!isDraft) tellReader(script.dataset.sent, '');
    return;
  }
  const leave = document.createElement('button');
  leave.type = 'button';
  leave.className = 'small quiet';
  leave.textContent = script.dataset.drop;
  const words = isDraft ? script.dataset.draft : script.dataset.refused;
  const refused = tellReader(words, isDraft ? 'alert-warn' : 'alert-error', ' ', linkTo(entry.page, script.dataset.open), ' ', leave);
  leave.addEventListener('click', () => { drop(kind, entry.id); refused.remove(); });
}

// What was submitted a moment ago is confirmed on the page that follows at once, and not on one that is opened
// much later.
const SUBMITTED = 'submitted';
export function noteSubmitted(version, isLate, isCandidate) {
  sessionStorage.setItem(SUBMITTED, JSON.stringify({ version, isLate, isCandidate, at: Date.now() }));
}

export function confirmSubmitted() {
  const past = JSON.parse(sessionStorage.getItem(SUBMITTED));
  sessionStorage.removeItem(SUBMITTED);
  if (!script || !past || Date.now() - past.at > 30_000) return;
  const { submitted, late, version, back } = script.dataset;
  const text = past.version > 1 ? fill(version, past.version) : past.isLate ? late : submitted;
  tellReader(text, '', ...(past.isCandidate ? [] : [' ', linkTo('/work/last', back)]));
}

if (script && owner) {
  confirmSubmitted();
  const inSight = document.querySelector('form[data-id]')?.dataset.id;
  for (const kind of Object.keys(PREFIXES)) {
    for (const entry of list(kind, owner)) if (entry.id !== inSight) sendLeftBehind(kind, entry);
  }
} else if (script && list('submission').length) {
  tellReader(script.dataset.signedOut, 'alert-warn');
}
