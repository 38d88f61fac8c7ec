// Writing and reviewing with a script: counts of words, lists that grow and passages that are quoted, for forms
// whose fields are named by their paths into the JSON; what it shares with the other kinds of tasks is in
// work.js. Without this file the page is a plain form.
import { submitByKey } from './keys.js';
import { find, goToWork } from './page.js';
import { startWork } from './work.js';

const form = find('#answer-form');
document.documentElement.classList.add('has-script');

// Fields that are no part of what is said.
const BESIDE = new Set(['revision', 'replaces', 'idempotency_key', 'active_ms', 'idle_ms', 'action']);
const inList = (name) => /^(\w+)\[(\d+)\]\.(\w+)$/.exec(name);

// What is said so far: as the server reads the form's names.
function collect() {
  const said = {};
  for (const [name, value] of new FormData(form)) {
    const entry = inList(name);
    if (entry) {
      const [, list, index, member] = entry;
      said[list] ??= [];
      said[list][index] ??= {};
      said[list][index][member] = value;
    } else if (value !== '' && !BESIDE.has(name)) {
      const isQuestion = form.querySelector(`.flag [name="${CSS.escape(name)}"]`) !== null;
      const answer = isQuestion ? value === 'yes' : value;
      const [object, ...key] = name.split('.');
      if (key.length) (said[object] ??= {})[key.join('.')] = answer;
      else said[name] = answer;
    }
  }
  return said;
}

// What a field's name leads to.
function lookUp(said, name) {
  const entry = inList(name);
  if (entry) return said[entry[1]]?.[entry[2]]?.[entry[3]];
  const [object, ...key] = name.split('.');
  return key.length ? said[object]?.[key.join('.')] : said[name];
}

// What was said before, on an earlier page, is in the form again.
function bringBack(said) {
  for (const list of form.querySelectorAll('[data-list]')) list.hold(said[list.dataset.list]?.length ?? 0);
  for (const field of form.elements) {
    if (!field.name || BESIDE.has(field.name)) continue;
    const value = lookUp(said, field.name) ?? '';
    const word = typeof value === 'boolean' ? { true: 'yes', false: 'no' }[value] : value;
    if (field.type === 'radio') field.checked = field.value === word;
    else field.value = word;
  }
  measureAll();
}

// This page has one task only.
const { signal } = new AbortController();
const work = startWork({ form, collect, bringBack, next: goToWork, signal });
const { changed } = work;

form.addEventListener('input', (event) => {
  // What is mended is wrong no more.
  event.target.closest('[aria-invalid]')?.removeAttribute('aria-invalid');
  if (event.target.matches('textarea')) measure(event.target);
  changed();
});

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
  // Makes room for so many entries.
  list.hold = (n) => { while (entries().length < n && !add.hidden) grow(); };
  list.nextFree = () => {
    const free = entries().find((entry) => fields(entry).every((field) => field.value === ''));
    return free ?? (add.hidden ? undefined : grow());
  };
}

// Words marked in the prompt become an entry of what was found.
const quote = find('#quote');
if (quote) {
  const given = find('.given');
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

form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (event.submitter?.value === 'submit') work.submit();
  // Enter in a line of text.
  else work.draft.save();
});
submitByKey(form, () => form.requestSubmit(find('#submit')), signal);

measureAll();
work.begin();
