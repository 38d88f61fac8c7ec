// What the server has not acknowledged yet, kept in this browser, over a reload and a closed window too, until
// it has: submissions, and drafts that could not be saved. A submission that is sent again with the same key is
// the same one, and a draft that is there already conflicts with nothing, so that trying twice hurts nobody.
// Each window keeps its own, and another one sees to it only once that window is gone.
import { announce, ask, fill, newKey } from './page.js';

const LONGEST_WAIT = 60_000;
// Their names have stood for submissions since before drafts were kept.
const PREFIXES = { submission: 'plackett outbox ', draft: 'plackett draft ' };

// This document. It holds a lock in its name for as long as it lives; where the browser knows no locks (it does
// over https and on this computer), every other window counts as gone.
const WINDOW = newKey();
const lockOf = (name) => `plackett window ${name}`;
navigator.locks?.request(lockOf(WINDOW), () => new Promise(() => {}));

const nameOf = ({ kind, id, window }) => [PREFIXES[kind] + id, window].filter(Boolean).join(' ');

// Storage may be full, or forbidden: then everything is sent all the same.
function withStorage(then, otherwise) {
  try {
    return then();
  } catch (reason) {
    console.warn('this browser keeps nothing', reason);
    return otherwise;
  }
}

// Returns what was kept; it takes the place of what this window kept of the task before.
export function keep(kind, entry) {
  const kept = { ...entry, kind, window: WINDOW, at: Date.now() };
  withStorage(() => localStorage.setItem(nameOf(kept), JSON.stringify(kept)));
  return kept;
}

export function drop(entry) {
  withStorage(() => localStorage.removeItem(nameOf(entry)));
}

// What this window kept of a task.
export const dropOwn = (kind, id) => drop({ kind, id, window: WINDOW });

function read(kind, name) {
  try {
    const entry = JSON.parse(localStorage.getItem(name));
    return entry && { ...entry, kind };
  } catch {
    withStorage(() => localStorage.removeItem(name));
    return null;
  }
}

const readAgain = (entry) => read(entry.kind, nameOf(entry));

// What is kept for an account, the newest first; somebody else's stays where it is.
function list(kind, owner) {
  const names = withStorage(() => Object.keys(localStorage), []).filter((name) => name.startsWith(PREFIXES[kind]));
  const entries = names.map((name) => read(kind, name)).filter((entry) => entry && (!owner || entry.owner === owner));
  return entries.sort((a, b) => (b.at ?? 0) - (a.at ?? 0));
}

// Calls `then` with what a window kept, as it left it, once that window is gone: at once where it is already, and
// in one other window only.
async function once(entry, then) {
  if (entry.window === WINDOW) return;
  const run = () => {
    const left = readAgain(entry);
    return left && then(left);
  };
  await (entry.window && navigator.locks ? navigator.locks.request(lockOf(entry.window), run) : run());
}

// The same with all that was kept of a task.
export function eachLeft(kind, owner, id, then) {
  for (const entry of list(kind, owner)) if (entry.id === id) once(entry, then);
}

// Tries once. The state is sent, refused (it will never be taken as it is), signed-out, busy (the server cannot
// take it now) or waiting (nobody answers).
async function send({ method = 'POST', url, key, body }) {
  try {
    const answer = await ask(method, url, body, key ? { 'idempotency-key': key } : {});
    if (answer.ok) return { state: 'sent', said: await answer.json() };
    const { status } = answer;
    if (status === 401) return { state: 'signed-out' };
    if (status === 429 || status >= 500) return { state: 'busy' };
    return { state: 'refused', status, said: await answer.json() };
  } catch {
    return { state: 'waiting' };
  }
}

// Tries until the server has answered, with longer and longer waits and at once when the connection comes
// back. `tell` hears how each try ended. Ends with 'stopped' when the signal says so, or nobody wants it any more.
export async function deliver(entry, signal, tell, isWanted = () => true) {
  for (let wait = 1000; !signal.aborted && isWanted(); wait = Math.min(wait * 2, LONGEST_WAIT)) {
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
  line.append(text, ...more);
  (document.querySelector('#notices') ?? document.querySelector('#main')).prepend(line);
  announce(text);
  return line;
}

function linkTo(address, text) {
  const link = document.createElement('a');
  link.href = address;
  link.textContent = text;
  return link;
}

async function sendLeftBehind(entry) {
  const isDraft = entry.kind === 'draft';
  let line;
  const tell = (tried) => {
    const text = tried === 'signed-out' ? script.dataset.signedOut : script.dataset.waiting;
    // A draft is no more than what its page shows when it is opened again.
    if (isDraft || line?.textContent === text) return;
    line?.remove();
    line = tellReader(text, 'alert-warn');
  };
  // Where the browser knows no locks, another window may have taken it back.
  const isWanted = () => readAgain(entry)?.at === entry.at;
  const { state, status } = await deliver(entry, new AbortController().signal, tell, isWanted);
  line?.remove();
  if (state === 'stopped') return;
  if (state === 'sent' || entry.isGivenBack) {
    drop(entry);
    if (!isDraft) tellReader(script.dataset.sent, '');
    return;
  }
  const leave = document.createElement('button');
  leave.type = 'button';
  leave.className = 'small quiet';
  leave.textContent = script.dataset.drop;
  const { draft, draftRefused, refused } = script.dataset;
  const words = !isDraft ? refused : status === 409 ? draft : draftRefused;
  const told = tellReader(words, isDraft ? 'alert-warn' : 'alert-error', ' ', linkTo(entry.page, script.dataset.open), ' ', leave);
  leave.addEventListener('click', () => { drop(entry); told.remove(); });
}

// Words from a page to the one that follows it in the same window.
function noteFor(name, value) {
  withStorage(() => sessionStorage.setItem(name, JSON.stringify(value)));
}

function takeNote(name) {
  return withStorage(() => {
    const value = JSON.parse(sessionStorage.getItem(name));
    sessionStorage.removeItem(name);
    return value;
  }, null);
}

// What was submitted a moment ago is confirmed on the page that follows at once, and not on one that is opened
// much later.
const SUBMITTED = 'submitted';
export function noteSubmitted(version, isLate, isCandidate) {
  noteFor(SUBMITTED, { version, isLate, isCandidate, at: Date.now() });
}

export function confirmSubmitted() {
  const past = takeNote(SUBMITTED);
  if (!script || !past || Date.now() - past.at > 30_000) return;
  const { submitted, late, version, back } = script.dataset;
  const text = past.version > 1 ? fill(version, past.version) : past.isLate ? late : submitted;
  tellReader(text, '', ...(past.isCandidate ? [] : [' ', linkTo('/work/last', back)]));
}

// What the browser itself sends to the server, as a form, stays kept until the page that answers says that it was
// taken.
const HANDED_OVER = 'handed over';
export const noteHandedOver = ({ kind, id, window }) => noteFor(HANDED_OVER, { kind, id, window });

function dropTaken() {
  const entry = takeNote(HANDED_OVER);
  if (entry && document.querySelector('#submitted')) drop(entry);
}

if (script && owner) {
  dropTaken();
  confirmSubmitted();
  const inSight = document.querySelector('form[data-id]')?.dataset.id;
  for (const kind of Object.keys(PREFIXES)) {
    for (const entry of list(kind, owner)) if (entry.id !== inSight) once(entry, sendLeftBehind);
  }
} else if (script && list('submission').length) {
  tellReader(script.dataset.signedOut, 'alert-warn');
}
