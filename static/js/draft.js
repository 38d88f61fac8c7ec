// Drafts that save themselves, lists that grow, counts of words and a submission that waits for the
// network, for forms whose fields are named by their paths into the JSON. Without this file the page is a
// plain form.
import { ask, goToWork } from './page.js';

const form = document.querySelector('form[data-draft-url]');
const status = document.querySelector('#draft-status');
const words = status.dataset;
const { revision, active_ms: activeField, idle_ms: idleField } = form.elements;
document.documentElement.classList.add('has-script');

// Come by a link, which changes nothing: the task is in sight from now on.
if (form.dataset.isOpened === 'false') ask('POST', `/work/${form.dataset.id}/open`).catch(() => {});

// Fields that are no part of what is said.
const beside = new Set(['revision', 'replaces', 'idempotency_key', 'active_ms', 'idle_ms', 'action']);

// Changes so far, and how many of them the server has.
let typed = 0;
let kept = 0;
let timer = 0;
let saving = false;
let leaving = false;

// Time with the page in sight counts as active while keys or pointer were used within the last minute.
const patience = 60_000;
const spent = { active: Number(activeField.value), idle: Number(idleField.value) };
let counted = Date.now();
let used = Date.now();
function count() {
  const now = Date.now();
  const isActive = !document.hidden && now - used < patience;
  // A computer that slept was not worked on.
  const passed = Math.min(now - counted, 5000);
  spent[isActive ? 'active' : 'idle'] += passed;
  counted = now;
  activeField.value = Math.round(spent.active);
  idleField.value = Math.round(spent.idle);
}
setInterval(count, 1000);
for (const kind of ['keydown', 'pointerdown', 'pointermove', 'wheel', 'touchstart']) {
  addEventListener(kind, () => { used = Date.now(); }, { passive: true });
}

// What is said so far: as the server reads the form's names.
function collect() {
  const said = {};
  for (const [name, value] of new FormData(form)) {
    const entry = /^(\w+)\[(\d+)\]\.(\w+)$/.exec(name);
    if (entry) {
      const [, list, index, member] = entry;
      said[list] ??= [];
      said[list][index] ??= {};
      said[list][index][member] = value;
    } else if (value !== '' && !beside.has(name)) {
      const isQuestion = form.querySelector(`.flag [name="${CSS.escape(name)}"]`) !== null;
      const answer = isQuestion ? value === 'yes' : value;
      const [object, ...key] = name.split('.');
      if (key.length) (said[object] ??= {})[key.join('.')] = answer;
      else said[name] = answer;
    }
  }
  count();
  said.time = { active_ms: Number(activeField.value), idle_ms: Number(idleField.value) };
  said.revision = Number(revision.value);
  return said;
}

// A live region is read aloud whenever it changes, so the same words are not written again.
function say(text) {
  if (status.textContent !== text) status.textContent = text;
}

const choice = document.querySelector('#draft-choice');

// A request may outlive its page only if it is small; a long text is not sent at all otherwise.
const small = 60_000;

async function save(isRetry = false) {
  if (saving || leaving) return;
  saving = true;
  const sent = typed;
  let retry = false;
  if (!isRetry) say(words.saving);
  try {
    const body = JSON.stringify(collect());
    const answer = await fetch(form.dataset.draftUrl, {
      method: 'PUT', headers: { 'content-type': 'application/json' }, body,
      keepalive: new Blob([body]).size < small,
    });
    const told = await answer.json();
    retry = [401, 429].includes(answer.status) || answer.status >= 500;
    if (answer.ok) {
      revision.value = told.revision;
      kept = sent;
      say(words.saved);
    } else {
      say({ 401: words.signedOut, 409: words.conflict, 422: words.refused }[answer.status] ?? told.detail);
    }
    choice.hidden = answer.status !== 409;
  } catch {
    retry = true;
    say(words.offline);
  }
  saving = false;
  if (retry) schedule(5000, true);
  else if (typed !== sent) schedule(0);
}

function schedule(delay = 600, isRetry = false) {
  clearTimeout(timer);
  timer = setTimeout(() => save(isRetry), delay);
}

// Typed into while it waits, a form is a draft again.
function changed() {
  typed += 1;
  leaving = false;
  waiting = false;
  schedule();
}

form.addEventListener('input', (event) => {
  // What is mended is wrong no more.
  event.target.closest('[aria-invalid]')?.removeAttribute('aria-invalid');
  if (event.target.matches('textarea')) measure(event.target);
  changed();
});

// After a conflict: what is here takes the place of the newer draft, because the labeler says so.
const view = form.dataset.draftUrl.replace(/\/draft$/, '');
async function newestRevision() {
  const answer = await fetch(view);
  if (!answer.ok) throw new Error(answer.statusText);
  return (await answer.json()).draft_revision;
}
document.querySelector('#keep-mine').addEventListener('click', async () => {
  try {
    revision.value = await newestRevision();
    await save();
  } catch {
    say(words.offline);
  }
});

// A page that goes away within the moment before a save sends what was typed first. If it is loaded
// again, the server may have answered before that arrived; the mark makes the new page look.
const mark = `draft sent late: ${form.dataset.draftUrl}`;
function flush() {
  if (typed === kept || leaving) return;
  sessionStorage.setItem(mark, 'yes');
  clearTimeout(timer);
  save();
}
addEventListener('beforeunload', flush);
addEventListener('pagehide', flush);
addEventListener('pageshow', () => { leaving = false; });
document.addEventListener('visibilitychange', () => { count(); if (document.hidden) flush(); });
async function lookForLateDraft() {
  if (!sessionStorage.getItem(mark)) return;
  sessionStorage.removeItem(mark);
  const newest = await newestRevision();
  if (typed === 0 && newest > Number(revision.value)) location.reload();
}
lookForLateDraft().catch(() => {});

// Words and characters of a text, as a reader of its language counts them.
const segmenter = globalThis.Intl?.Segmenter && new Intl.Segmenter(undefined, { granularity: 'word' });
function countWords(text) {
  if (!segmenter) return text.split(/\s+/).filter(Boolean).length;
  let n = 0;
  for (const segment of segmenter.segment(text)) n += segment.isWordLike ? 1 : 0;
  return n;
}
function measure(text) {
  const place = document.getElementById(`count-${text.id}`);
  if (!place) return;
  const most = Number(text.dataset.most);
  const n = [...text.value].length;
  const isOver = n > most;
  place.textContent = isOver
    ? place.dataset.over.replace('#n', n - most)
    : place.dataset.text.replace('#w', countWords(text.value)).replace('#c', n);
  place.classList.toggle('wrong', isOver);
}
const measureAll = () => form.querySelectorAll('textarea[data-most]').forEach(measure);

// Lists of entries: one more, or one less. Entries keep their names, so values move up instead.
for (const list of form.querySelectorAll('[data-list]')) {
  const add = list.querySelector('[data-add]');
  const template = list.querySelector('template');
  const entries = () => [...list.querySelectorAll(':scope > .entry')];
  const fields = (entry) => [...entry.querySelectorAll('textarea, select, input')];
  const draw = () => {
    const n = entries().length;
    add.hidden = n >= Number(list.dataset.most);
    for (const button of list.querySelectorAll(':scope > .entry [data-remove]')) {
      button.hidden = n <= Number(list.dataset.fewest);
    }
  };
  const grow = () => {
    const n = entries().length;
    const html = template.innerHTML.replaceAll('__I__', n).replaceAll('__N__', n + 1);
    template.insertAdjacentHTML('beforebegin', html);
    draw();
    measureAll();
    entries().at(-1).scrollIntoView({ block: 'nearest' });
    return entries().at(-1);
  };
  const shrink = (gone) => {
    const all = entries();
    for (let i = all.indexOf(gone); i < all.length - 1; i += 1) {
      const next = fields(all[i + 1]);
      fields(all[i]).forEach((field, j) => { field.value = next[j].value; });
    }
    all.at(-1).remove();
    draw();
    measureAll();
  };
  list.addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (button === add) {
      event.preventDefault();
      fields(grow())[0].focus();
      changed();
    } else if (button?.matches('[data-remove]')) {
      event.preventDefault();
      shrink(button.closest('.entry'));
      list.focus();
      changed();
    }
  });
  list.nextFree = () => {
    const free = entries().find((entry) => fields(entry).every((field) => field.value === ''));
    return free ?? (add.hidden ? undefined : grow());
  };
}

// Words marked in the prompt become an entry of what was found.
const quote = document.querySelector('#quote');
if (quote) {
  const given = document.querySelector('.given');
  let marked = '';
  document.addEventListener('selectionchange', () => {
    const selection = getSelection();
    if (!selection.isCollapsed && given.contains(selection.anchorNode)) marked = selection.toString().trim();
  });
  quote.addEventListener('click', () => {
    const entry = marked && quote.closest('[data-list]').nextFree();
    if (!entry) return;
    const [kind, passage] = entry.querySelectorAll('select, input');
    passage.value = marked.replace(/\s+/g, ' ');
    marked = '';
    const unanswered = form.querySelector('[name="personal_data"][value=""]');
    if (unanswered.checked) form.querySelector('[name="personal_data"][value="yes"]').checked = true;
    kind.focus();
    changed();
  });
}

// Sends the form and goes on. Without a network, or signed out, it waits, with everything still on the
// page; sent twice it is one submission, by its key. What the server does not take is sent once more as
// the browser would, so that the page comes back with what is wrong.
// Fields named "action" and "submit" hide the form's own members of these names.
const address = form.getAttribute('action');
let waiting = false;
function wait(text) {
  waiting = true;
  say(text);
  timer = setTimeout(send, 5000);
}
async function send() {
  clearTimeout(timer);
  waiting = false;
  leaving = true;
  count();
  const body = new URLSearchParams(new FormData(form));
  body.set('action', 'submit');
  say(words.sending);
  try {
    const answer = await fetch(address, { method: 'POST', body, redirect: 'manual' });
    if (answer.type === 'opaqueredirect') return goToWork();
    if (answer.status === 401) return wait(words.signedOut);
    if (answer.status === 429 || answer.status >= 500) return wait(words.waiting);
  } catch {
    return wait(words.waiting);
  }
  const action = document.createElement('input');
  Object.assign(action, { type: 'hidden', name: 'action', value: 'submit' });
  form.append(action);
  HTMLFormElement.prototype.submit.call(form);
}
addEventListener('online', () => {
  if (waiting) send();
});
form.addEventListener('submit', (event) => {
  if (event.submitter?.value === 'submit') {
    event.preventDefault();
    send();
  } else {
    // Enter in a line of text.
    event.preventDefault();
    schedule(0);
  }
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    // In a form of its own, such as that of a question, it is not the task that is meant.
    const own = event.target.form ?? event.target.closest('form');
    if (own && own !== form) return;
    event.preventDefault();
    form.requestSubmit(document.querySelector('#submit'));
  }
});

measureAll();
const errors = document.querySelector('#errors');
if (errors) {
  errors.focus();
  // What a refused submit brought back may be newer than the draft.
  typed += 1;
  if (!errors.querySelector(`a[href="${address}"]`)) schedule();
}
