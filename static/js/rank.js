// Keys and self-saving drafts for the ranking page. Without this file the page is a plain form.
const form = document.querySelector('#rank-form');
const cards = [...form.querySelectorAll('.candidate')];
const status = document.querySelector('#draft-status');
const words = status.dataset;
document.documentElement.classList.add('has-script');

let current = 0;
let revision = Number(form.dataset.revision);
let timer = 0;
let saving = false;
let again = false;
let leaving = false;

function select(index, focus = true) {
  current = Math.max(0, Math.min(cards.length - 1, index));
  cards.forEach((card, i) => card.classList.toggle('is-current', i === current));
  if (focus) {
    cards[current].focus({ preventScroll: true });
    cards[current].scrollIntoView({ block: 'nearest' });
  }
}

// Which letters sit at which rank, ties side by side.
function drawBoard() {
  for (const place of document.querySelectorAll('#board [data-rank]')) {
    const letters = cards.filter((card) => card.querySelector(`input[name^="rank-"][value="${place.dataset.rank}"]:checked`));
    place.querySelector('span').textContent = letters.map((card) => card.dataset.letter).join('');
  }
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
  return { candidates, note: form.elements.note.value, revision };
}

async function save() {
  if (saving) { again = true; return; }
  saving = true;
  status.textContent = words.saving;
  try {
    const answer = await fetch(form.dataset.draftUrl, {
      method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(collect()),
    });
    const body = await answer.json();
    if (answer.ok) {
      revision = body.revision;
      status.textContent = words.saved;
    } else {
      status.textContent = body.detail;
    }
  } catch {
    status.textContent = words.offline;
    schedule(5000);
  }
  saving = false;
  if (again) { again = false; schedule(0); }
}

function schedule(delay = 600) {
  clearTimeout(timer);
  timer = setTimeout(() => { if (!leaving) save(); }, delay);
}

form.addEventListener('input', () => { drawBoard(); schedule(); });
form.addEventListener('submit', () => { leaving = true; clearTimeout(timer); });
form.addEventListener('focusin', (event) => {
  const card = event.target.closest('.candidate');
  if (card) select(cards.indexOf(card), false);
});

const help = document.querySelector('#help');
document.querySelector('#help-button').addEventListener('click', () => help.showModal());

document.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit(document.querySelector('#submit'));
    return;
  }
  const typing = event.target.matches('textarea, select, input:not([type=radio])');
  if (typing || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === 'j' || key === 'k') {
    event.preventDefault();
    select(current + (key === 'j' ? 1 : -1));
  } else if (/^[1-9]$/.test(key)) {
    const input = cards[current].querySelector(`input[name^="rank-"][value="${key}"]`);
    if (input) {
      event.preventDefault();
      input.checked = true;
      input.dispatchEvent(new Event('input', { bubbles: true }));
    }
  } else if (event.key === '?') {
    event.preventDefault();
    help.showModal();
  }
});

drawBoard();
select(0, false);
