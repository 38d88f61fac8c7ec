// Keys and self-saving drafts for the ranking page. Without this file the page is a plain form.
const form = document.querySelector('#rank-form');
const cards = [...form.querySelectorAll('.candidate')];
const status = document.querySelector('#draft-status');
const words = status.dataset;
document.documentElement.classList.add('has-script');

let current = 0;
const revision = form.elements.revision;
let timer = 0;
// Changes so far, and how many of them the server has.
let typed = 0;
let kept = 0;
let saving = false;
let leaving = false;

function select(index, focus = true) {
  current = Math.max(0, Math.min(cards.length - 1, index));
  cards.forEach((card, i) => card.classList.toggle('is-current', i === current));
  if (focus) {
    cards[current].focus({ preventScroll: true });
    show(cards[current]);
  }
}

// Brings a card's beginning into sight unless all of it is: between the prompt and the bar, where
// those stick.
function show(card) {
  const { top, bottom } = card.getBoundingClientRect();
  const margin = getComputedStyle(card);
  const above = parseFloat(margin.scrollMarginTop);
  const below = innerHeight - parseFloat(margin.scrollMarginBottom);
  if (top < above || (bottom > below && top > above + 1)) card.scrollIntoView({ block: 'start' });
}

// Which letters sit at which rank, ties side by side; and on each card its rank and how many of its
// questions are answered.
function draw() {
  for (const place of document.querySelectorAll('#board [data-rank]')) {
    const letters = cards.filter((card) => rankOf(card) === place.dataset.rank);
    place.querySelector('span').textContent = letters.map((card) => card.dataset.letter).join('');
  }
  for (const card of cards) {
    const place = card.querySelector('.place');
    const rank = rankOf(card);
    place.textContent = rank ? place.dataset.text.replace('#', rank) : '';
    const summary = card.querySelector('.questions > summary');
    const answered = card.querySelectorAll('.flag input:checked:not([value=""])').length;
    summary.textContent = summary.dataset.text.replace('#', answered);
  }
}

function rankOf(card) {
  return card.querySelector('.rank input:checked')?.value;
}

function collect() {
  const candidates = cards.map((card) => {
    const item = { position: Number(card.dataset.position) };
    const flags = {};
    for (const input of card.querySelectorAll('input:checked')) {
      const [kind, , ...rest] = input.name.split('-');
      if (kind === 'rank') item.rank = Number(input.value);
      else if (kind === 'rating') item.rating = Number(input.value);
      else if (input.value) flags[rest.join('-')] = input.value === 'yes';
    }
    if (Object.keys(flags).length) item.flags = flags;
    return item;
  });
  return { candidates, note: form.elements.note.value, revision: Number(revision.value) };
}

// A live region is read aloud whenever it changes, so the same words are not written again.
function say(text) {
  if (status.textContent !== text) status.textContent = text;
}

// Saves what was typed so far. The request outlives the page.
async function save(isRetry = false) {
  if (saving || leaving) return;
  saving = true;
  const sent = typed;
  let retry = false;
  if (!isRetry) say(words.saving);
  try {
    const answer = await fetch(form.dataset.draftUrl, {
      method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(collect()), keepalive: true,
    });
    const body = await answer.json();
    retry = [401, 429].includes(answer.status) || answer.status >= 500;
    if (answer.ok) {
      revision.value = body.revision;
      kept = sent;
      say(words.saved);
    } else {
      say({ 401: words.signedOut, 409: words.conflict }[answer.status] ?? body.detail);
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

form.addEventListener('input', (event) => {
  typed += 1;
  leaving = false;
  // What is mended is wrong no more.
  event.target.closest('[aria-invalid]')?.removeAttribute('aria-invalid');
  draw();
  schedule();
});

const view = form.dataset.draftUrl.replace(/\/draft$/, '');
async function newestRevision() {
  const answer = await fetch(view);
  if (!answer.ok) throw new Error(answer.statusText);
  return (await answer.json()).draft_revision;
}

// After a conflict: what is here takes the place of the newer draft, because the labeler says so.
const choice = document.querySelector('#draft-choice');
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
document.addEventListener('visibilitychange', () => { if (document.hidden) flush(); });

async function lookForLateDraft() {
  if (!sessionStorage.getItem(mark)) return;
  sessionStorage.removeItem(mark);
  const newest = await newestRevision();
  if (typed === 0 && newest > Number(revision.value)) location.reload();
}
lookForLateDraft().catch(() => {});

form.addEventListener('submit', () => { leaving = true; clearTimeout(timer); });
form.addEventListener('focusin', (event) => {
  const card = event.target.closest('.candidate');
  if (card) select(cards.indexOf(card), false);
});

const help = document.querySelector('#help');
document.querySelector('#help-button').addEventListener('click', () => help.showModal());

// Whoever speaks to the computer, or hits keys by mistake, can switch single keys off.
const keysOn = document.querySelector('#keys-on');
keysOn.checked = localStorage.getItem('keys') !== 'off';
keysOn.addEventListener('change', () => localStorage.setItem('keys', keysOn.checked ? 'on' : 'off'));

// The radio of a part of the current card, chosen as by a click.
function choose(input, focus = false) {
  if (!input) return;
  input.checked = true;
  if (focus) input.focus();
  input.dispatchEvent(new Event('input', { bubbles: true }));
}

// Answers the question that has the focus and goes on to the next one of its card.
function answer(question, value) {
  choose(question.querySelector(`input[value="${value}"]`), true);
  const next = question.nextElementSibling;
  next?.querySelector('input:checked').focus();
}

function openQuestions() {
  const questions = cards[current].querySelector('.questions');
  questions.open = true;
  const unanswered = questions.querySelector('input:checked[value=""]');
  (unanswered ?? questions.querySelector('input:checked'))?.focus();
}

document.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit(document.querySelector('#submit'));
    return;
  }
  const typing = event.target.matches('textarea, select, input:not([type=radio])');
  if (typing || !keysOn.checked || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (event.key === '?') {
    event.preventDefault();
    help.showModal();
    return;
  }
  // A digit ranks; the other sign on its key, which most keyboards give with Shift, rates.
  const ranks = /^[1-9]$/.exec(event.key)?.[0];
  const digit = ranks ?? /^Digit([1-9])$/.exec(event.code)?.[1];
  const question = event.target.closest('.flag');
  if (digit) {
    // A digit typed on a rating is that rating.
    const onRating = event.target.closest('.rating') !== null;
    const part = onRating || !ranks ? 'rating' : 'rank';
    event.preventDefault();
    choose(cards[current].querySelector(`.${part} input[value="${digit}"]`), onRating);
  } else if (key === 'j' || key === 'k') {
    event.preventDefault();
    select(current + (key === 'j' ? 1 : -1));
  } else if (key === 'f') {
    event.preventDefault();
    openQuestions();
  } else if (question && 'ynu'.includes(key)) {
    event.preventDefault();
    answer(question, { y: 'yes', n: 'no', u: '' }[key]);
  }
});

draw();
select(0, false);
const errors = document.querySelector('#errors');
if (errors) {
  errors.focus();
  // What a refused submit brought back may be newer than the draft.
  typed += 1;
  if (!errors.querySelector('a[href^="/rank/"]')) schedule();
}
