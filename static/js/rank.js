// Keys and self-saving drafts for the ranking page. Without this file the page is a plain form.
const form = document.querySelector('#rank-form');
const cards = [...form.querySelectorAll('.candidate')];
const status = document.querySelector('#draft-status');
const words = status.dataset;
document.documentElement.classList.add('has-script');

let current = 0;
const revision = form.elements.revision;
let timer = 0;
let saving = false;
let again = false;
let unsaved = false;
let leaving = false;

function select(index, focus = true) {
  current = Math.max(0, Math.min(cards.length - 1, index));
  cards.forEach((card, i) => card.classList.toggle('is-current', i === current));
  if (focus) {
    cards[current].focus({ preventScroll: true });
    cards[current].scrollIntoView({ block: 'nearest' });
  }
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

function put(keepalive) {
  return fetch(form.dataset.draftUrl, {
    method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(collect()), keepalive,
  });
}

async function save() {
  if (saving) { again = true; return; }
  saving = true;
  unsaved = false;
  status.textContent = words.saving;
  try {
    const answer = await put(false);
    const body = await answer.json();
    if (answer.ok) {
      revision.value = body.revision;
      status.textContent = words.saved;
    } else if (answer.status === 401) {
      status.textContent = words.signedOut;
      schedule(5000);
    } else {
      status.textContent = answer.status === 409 ? words.conflict : body.detail;
    }
  } catch {
    status.textContent = words.offline;
    schedule(5000);
  }
  saving = false;
  if (again) { again = false; schedule(0); }
}

function schedule(delay = 600) {
  unsaved = true;
  clearTimeout(timer);
  timer = setTimeout(() => { if (!leaving) save(); }, delay);
}

form.addEventListener('input', () => { draw(); schedule(); });
// A page that is closed within the moment before a save still sends what was typed.
addEventListener('pagehide', () => { if (unsaved && !saving && !leaving) put(true); });
form.addEventListener('submit', () => { leaving = true; clearTimeout(timer); });
form.addEventListener('focusin', (event) => {
  const card = event.target.closest('.candidate');
  if (card) select(cards.indexOf(card), false);
});

const help = document.querySelector('#help');
document.querySelector('#help-button').addEventListener('click', () => help.showModal());

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
  next?.querySelector('input:checked, input').focus();
}

function openQuestions() {
  const questions = cards[current].querySelector('.questions');
  questions.open = true;
  const unanswered = questions.querySelector('input:checked[value=""]');
  (unanswered ?? questions.querySelector('input:checked')).focus();
}

document.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit(document.querySelector('#submit'));
    return;
  }
  const typing = event.target.matches('textarea, select, input:not([type=radio])');
  if (typing || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  // The key's place, not its character: Shift turns 1 into another sign on every keyboard. On the
  // number pad it is the character, since the pad's keys also move.
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1] ?? /^[1-9]$/.exec(event.key)?.[0];
  const question = event.target.closest('.flag');
  if (digit) {
    // A digit typed on a rating is that rating.
    const rates = event.shiftKey || event.target.closest('.rating');
    event.preventDefault();
    choose(cards[current].querySelector(`.${rates ? 'rating' : 'rank'} input[value="${digit}"]`), Boolean(rates) && !event.shiftKey);
  } else if (key === 'j' || key === 'k') {
    event.preventDefault();
    select(current + (key === 'j' ? 1 : -1));
  } else if (key === 'f') {
    event.preventDefault();
    openQuestions();
  } else if (question && 'ynu'.includes(key)) {
    event.preventDefault();
    answer(question, { y: 'yes', n: 'no', u: '' }[key]);
  } else if (event.key === '?') {
    event.preventDefault();
    help.showModal();
  }
});

draw();
select(0, false);
document.querySelector('#errors')?.focus();
