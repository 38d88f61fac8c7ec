// The labeling page with a script: keys, a board, and the next task without a wait; what it shares with the other
// kinds of tasks is in work.js. Without this file the page is a plain form.
import { showPage, startAhead } from './ahead.js';
import { startBoard } from './board.js';
import { startKeys, submitByKey } from './keys.js';
import { announce, fill, find, goToWork, words } from './page.js';
import { startPrompt } from './prompt.js';
import { startWork } from './work.js';

document.documentElement.classList.add('has-script');

function start() {
  const ended = new AbortController();
  const { signal } = ended;
  const form = find('#rank-form');
  const isCompare = form.dataset.kind === 'compare';
  // Somebody who is being screened: what they said counts as it is.
  const isCandidate = 'candidate' in form.dataset;
  const cards = [...form.querySelectorAll('.candidate')];
  const radio = (card, part, value) => card.querySelector(`.${part} input[value="${value}"]`);
  let current = 0;

  // What the labeler said, as the API takes it.
  function collect() {
    const candidates = cards.map((card) => {
      const item = { position: Number(card.dataset.position) };
      const [flags, scales] = [{}, {}];
      for (const input of card.querySelectorAll('input:checked')) {
        const [part, , ...rest] = input.name.split('-');
        if (part === 'rank' && input.value === 'cannot') item.cannot_judge = true;
        else if (part === 'rank') item.rank = Number(input.value);
        else if (part === 'rating') item.rating = Number(input.value);
        else if (part === 'scale') scales[rest.join('-')] = Number(input.value);
        else if (input.value) flags[rest.join('-')] = input.value === 'yes';
      }
      if (Object.keys(scales).length) item.scales = scales;
      if (Object.keys(flags).length) item.flags = flags;
      const note = card.querySelector('.own-note textarea').value;
      if (note) item.note = note;
      return item;
    });
    const said = { candidates, note: form.elements.note.value };
    if (form.elements.all_bad.checked) said.all_bad = true;
    const preference = form.elements.preference?.value;
    if (preference === 'tie') for (const item of candidates) item.rank = 1;
    else if (preference) {
      const [better, strength] = preference.split('-').map(Number);
      for (const item of candidates) item.rank = item.position === better ? 1 : 2;
      said.strength = strength;
    }
    return said;
  }

  const work = startWork({ form, collect, bringBack, next, signal });
  const { isCorrection } = work;
  const board = isCompare ? null : startBoard({ cards, select, current: () => cards[current], changed: touched, signal });
  const ahead = isCorrection ? null : startAhead(work.clock.isActive, signal);
  startPrompt(signal);

  // Something was said: draw it, and save it.
  function touched(part) {
    part.querySelector?.('.rank[aria-invalid]')?.removeAttribute('aria-invalid');
    forgive();
    draw();
    work.changed();
  }

  function draw() {
    board?.draw();
    for (const card of cards) {
      const summary = card.querySelector('.questions > summary');
      const answered = card.querySelectorAll('.flag input:checked:not([value=""])').length;
      summary.textContent = fill(summary.dataset.text, answered);
    }
    drawContradictions();
    const chosen = form.querySelector('.preference input:checked');
    if (chosen) form.querySelector('.preference .chosen').textContent = chosen.nextElementSibling.title;
  }

  // A better rank with a lower rating: pointed out on both cards, and never forbidden.
  function drawContradictions() {
    const judged = collect().candidates;
    const contradicts = (better, worse) => better.rank < worse.rank && better.rating < worse.rating;
    judged.forEach((one, index) => {
      const letters = (test) => judged.filter(test).map((other) => cards[other.position - 1].dataset.letter).join(', ');
      for (const [side, found] of [
        ['above', letters((other) => contradicts(one, other))],
        ['below', letters((other) => contradicts(other, one))],
      ]) {
        const line = cards[index].querySelector(`.contradiction[data-side=${side}]`);
        if (found && line.dataset.letters !== found) {
          line.textContent = fill(words()[side], found);
          if (isStarted && side === 'above') announce(`${cards[index].dataset.letter}: ${line.textContent}`);
        }
        line.dataset.letters = found;
        line.hidden = !found;
      }
    });
  }

  function select(index, focus = true) {
    current = Math.max(0, Math.min(cards.length - 1, index));
    cards.forEach((card, i) => card.classList.toggle('is-current', i === current));
    if (focus) show(cards[current]);
    board?.draw();
  }

  // Brings a card's beginning into sight unless all of it is: between the prompt and the bar, where
  // those stick.
  function show(card) {
    if (!document.activeElement?.closest('.board')) card.focus({ preventScroll: true });
    const { top, bottom } = card.getBoundingClientRect();
    const padding = getComputedStyle(document.documentElement);
    const above = parseFloat(padding.scrollPaddingTop) || 0;
    const below = innerHeight - (parseFloat(padding.scrollPaddingBottom) || 0);
    if (top < above || (bottom > below && top > above + 1)) card.scrollIntoView({ block: 'start' });
  }

  form.addEventListener('input', (event) => {
    // What is mended is wrong no more.
    event.target.closest('[aria-invalid]')?.removeAttribute('aria-invalid');
    touched(event.target);
    if (event.target.closest('.rank')) board.say(event.target.closest('.candidate'));
  }, { signal });
  form.addEventListener('focusin', (event) => {
    const card = event.target.closest('.candidate');
    if (card) select(cards.indexOf(card), false);
  }, { signal });

  // Submitting.
  let confirmed = false;

  function complaints() {
    const said = collect();
    if (said.all_bad) return [];
    if (isCompare) return form.elements.preference.value ? [] : [['preference', words().needsPreference]];
    const open = said.candidates.filter((item) => !item.rank && !item.cannot_judge);
    if (open.length) {
      return open.map((item) => [`rank-${item.position}`, fill(words().needsRank, cards[item.position - 1].dataset.letter)]);
    }
    return said.candidates.filter((item) => item.rank).length < 2 ? [['note', words().needsTwo]] : [];
  }

  function complain(wrong) {
    find('#errors')?.remove();
    const box = document.createElement('div');
    box.className = 'alert alert-error';
    box.id = 'errors';
    box.dataset.live = '';
    box.tabIndex = -1;
    const list_ = document.createElement('ul');
    for (const [anchor, text] of wrong) {
      const link = document.createElement('a');
      link.href = `#${anchor}`;
      link.textContent = text;
      const line = document.createElement('li');
      line.id = `wrong-${anchor}`;
      line.append(link);
      list_.append(line);
      const part = document.getElementById(anchor);
      part.setAttribute('aria-invalid', 'true');
      part.setAttribute('aria-describedby', line.id);
    }
    const head = document.createElement('p');
    head.textContent = words().errors;
    box.append(head, list_);
    find('#notices').prepend(box);
    box.focus();
  }

  // Of what this page complained of, what was mended since is complained of no more.
  function forgive() {
    const lines = document.querySelectorAll('#errors[data-live] li');
    if (!lines.length) return;
    const wrong = complaints().map(([anchor]) => `wrong-${anchor}`);
    for (const line of lines) if (!wrong.includes(line.id)) line.remove();
    if (!wrong.length) find('#errors').remove();
  }

  const isUntouched = () => !isCompare && collect().candidates.every((item) => item.rank === item.position);

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (work.isSending()) return;
    if (event.submitter?.name === 'confirmed') confirm();
    const wrong = complaints();
    if (wrong.length) complain(wrong);
    else if (isUntouched() && !confirmed && !isCorrection) find('#untouched').showModal();
    else work.submit();
  }, { signal });
  find('#untouched').addEventListener('close', (event) => {
    if (event.target.returnValue !== 'yes') return;
    confirm();
    work.submit();
  }, { signal });

  // The order as shown is what is meant: where the browser sends the form, it says so, too.
  function confirm() {
    confirmed = true;
    const input = document.createElement('input');
    Object.assign(input, { type: 'hidden', name: 'confirmed', value: 'yes' });
    form.append(input);
  }

  // What was said before, here or on an earlier page, is in the form again.
  function bringBack(body) {
    form.elements.note.value = body.note ?? '';
    form.elements.all_bad.checked = Boolean(body.all_bad);
    for (const item of body.candidates ?? []) {
      const card = cards[item.position - 1];
      if (!card) continue;
      const said = { rank: item.cannot_judge ? 'cannot' : item.rank, rating: item.rating };
      for (const [key, value] of Object.entries(item.scales ?? {})) said[`scale:${key}`] = value;
      for (const [key, value] of Object.entries(item.flags ?? {})) said[`flag:${key}`] = value ? 'yes' : 'no';
      for (const input of card.querySelectorAll('input[type=radio]')) {
        const [part, , ...rest] = input.name.split('-');
        const value = said[rest.length ? `${part}:${rest.join('-')}` : part];
        input.checked = value === undefined ? input.value === '' : input.value === String(value);
      }
      card.querySelector('.own-note textarea').value = item.note ?? '';
    }
    if (isCompare) bringBackPreference(body);
    draw();
  }

  function bringBackPreference({ candidates = [], strength }) {
    const [first, second] = candidates;
    const better = first?.rank < second?.rank ? first : second;
    const value = first?.rank === second?.rank ? 'tie' : `${better?.position}-${strength}`;
    for (const input of form.querySelectorAll('.preference input')) input.checked = input.value === value;
  }

  async function next() {
    const waiting = await ahead.take();
    ended.abort();
    const shown = waiting && await showPage(waiting).catch(() => false);
    if (shown) start();
    else goToWork();
  }

  // Buttons and dialogs.
  const help = find('#help');
  find('#help-button').addEventListener('click', () => help.showModal(), { signal });
  const differences = find('#differences');
  const differencesForm = find('#differences-form');
  async function showDifferences() {
    differences.open = true;
    const place = find('#differences-shown');
    const query = new URLSearchParams(new FormData(differencesForm));
    query.set('part', 'true');
    try {
      const answer = await fetch(`${differencesForm.getAttribute('action')}?${query}`);
      // To sign in, for example, which is no part of this page.
      if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
      place.innerHTML = await answer.text();
    } catch {
      place.textContent = words().differencesFailed;
    }
    place.focus({ preventScroll: true });
    differences.scrollIntoView({ block: 'nearest' });
  }
  differencesForm.addEventListener('submit', (event) => { event.preventDefault(); showDifferences(); }, { signal });

  // The radio of a part of the current card, chosen as by a click.
  function choose(input, focus = false) {
    if (!input) return;
    input.checked = true;
    if (focus) input.focus();
    input.dispatchEvent(new Event('input', { bubbles: true }));
  }

  // Answers the question that has the focus and goes on to the next one of its card.
  function answer(value) {
    const question = document.activeElement.closest('.flag');
    if (!question) return false;
    choose(question.querySelector(`input[value="${value}"]`), true);
    question.nextElementSibling?.querySelector('input:checked').focus();
    return true;
  }

  const onCard = (then) => (isCompare ? undefined : () => { then(cards[current]); return true; });
  submitByKey(form, () => form.requestSubmit(find('#submit')), signal);
  startKeys(form, {
    leave: (field) => field.closest('.candidate')?.focus(),
    digit(n, rates, event) {
      const card = cards[current];
      // A digit typed on a rating or a scale is that answer.
      const onScale = event.target.closest('.rating, .scale');
      if (rates || onScale) choose((onScale ?? card.querySelector('.rating')).querySelector(`input[value="${n}"]`), Boolean(onScale));
      else if (isCompare) choose(form.querySelectorAll('.preference input')[n - 1]);
      else if (n === 0) board.place(card, 0);
      else choose(radio(card, 'rank', n));
      return true;
    },
    next: () => { select(current + 1); return true; },
    previous: () => { select(current - 1); return true; },
    up: onCard((card) => board.move(card, 'up')),
    down: onCard((card) => board.move(card, 'down')),
    tie: onCard((card) => board.move(card, 'tie')),
    cannot: onCard((card) => board.cannot(card)),
    'all-bad': () => { form.elements.all_bad.click(); return true; },
    questions() {
      const questions = cards[current].querySelector('.questions');
      questions.open = true;
      const unanswered = questions.querySelector('input:checked[value=""]');
      (unanswered ?? questions.querySelector('input:checked'))?.focus();
      return true;
    },
    yes: () => answer('yes'),
    no: () => answer('no'),
    unanswer: () => answer(''),
    note() {
      const note = cards[current].querySelector('.own-note');
      note.open = true;
      note.querySelector('textarea').focus();
      return true;
    },
    differences() {
      const other = current > 0 ? current - 1 : 1;
      differencesForm.elements.a.value = Math.min(current, other) + 1;
      differencesForm.elements.b.value = Math.max(current, other) + 1;
      showDifferences();
      return true;
    },
    break: () => (isCorrection ? false : (work.takeBreak(), true)),
    last: () => (isCandidate ? false : (location.assign('/work/last'), true)),
    help: () => { help.showModal(); return true; },
  }, signal);

  let isStarted = false;
  draw();
  select(0, false);
  isStarted = true;

  work.begin();
}

start();
