// The ranking as columns: who stands where at a glance, ties side by side. Every letter can be moved by
// its buttons, by a tap on it and then on a column, by arrow keys, or by dragging.
import { announce, fill, find, words } from './page.js';

// `cards` in the order shown; `select` makes one the current card; `current` is it; `changed` is called
// after a change of ranks.
export function startBoard({ cards, select, current, changed, signal }) {
  const board = find('#board');
  const chips = new Map(cards.map((card) => [card, makeChip(card)]));
  const column = (rank) => board.querySelector(`[data-rank="${rank}"]`);

  function makeChip(card) {
    const chip = document.createElement('button');
    chip.type = 'button';
    chip.className = 'chip';
    chip.textContent = card.dataset.letter;
    return chip;
  }

  const rankOf = (card) => Number(card.querySelector('.rank input:checked')?.value) || 0;
  const isCannot = (card) => card.querySelector('.rank input:checked')?.value === 'cannot';

  function setRank(card, rank) {
    for (const input of card.querySelectorAll('.rank input')) input.checked = input.value === String(rank);
  }

  // Those with a rank, best first, ties together.
  function groups(without = null) {
    const ranked = cards.filter((card) => card !== without && rankOf(card));
    const ranks = [...new Set(ranked.map(rankOf))].sort((a, b) => a - b);
    return ranks.map((rank) => ranked.filter((card) => rankOf(card) === rank));
  }

  function assign(order) {
    order.forEach((group, index) => group.forEach((card) => setRank(card, index + 1)));
  }

  // Up and down pass a whole tie; out of a tie they lead beside it.
  function move(card, way) {
    const order = groups();
    const at = order.findIndex((group) => group.includes(card));
    const tied = at >= 0 && order[at].length > 1;
    const without = tied ? order[at].filter((other) => other !== card) : [];
    if (at < 0) {
      if (way === 'tie' && order.length) order.at(-1).push(card);
      else order.push([card]);
    } else if (way === 'tie') {
      if (at === 0) return say(card);
      order[at - 1].push(card);
      order.splice(at, 1, ...(tied ? [without] : []));
    } else if (tied) {
      order.splice(at, 1, ...(way === 'up' ? [[card], without] : [without, [card]]));
    } else {
      const to = way === 'up' ? at - 1 : at + 1;
      if (order[to]) [order[at], order[to]] = [order[to], order[at]];
    }
    assign(order);
    return done(card);
  }

  // At a rank; 0 is none.
  function place(card, rank) {
    setRank(card, rank || '');
    done(card);
  }

  // Between two columns, as a rank of its own.
  function insert(card, before) {
    const order = groups(card);
    const at = order.filter((group) => rankOf(group[0]) < before).length;
    order.splice(at, 0, [card]);
    assign(order);
    done(card);
  }

  function done(card) {
    changed(card);
    say(card);
  }

  function say(card) {
    const letter = card.dataset.letter;
    const rank = rankOf(card);
    if (isCannot(card)) return announce(fill(words().nowCannot, letter));
    if (!rank) return announce(fill(words().unranked, letter));
    const tied = cards.filter((other) => other !== card && rankOf(other) === rank);
    const others = tied.map((other) => other.dataset.letter).join(', ');
    const values = { letter, rank, all: cards.length, others };
    return announce(fill(others ? words().movedTied : words().moved, values));
  }

  function draw() {
    for (const card of cards) {
      const chip = chips.get(card);
      const rank = rankOf(card);
      const place = rank === 1 ? words().placeBest : fill(words().place, rank);
      const where = isCannot(card) ? words().cannot : rank ? place : '';
      chip.classList.toggle('is-unjudged', isCannot(card));
      chip.classList.toggle('is-current', card === current());
      chip.setAttribute('aria-pressed', card === current());
      chip.setAttribute('aria-label', [card.dataset.letter, where].filter(Boolean).join(', '));
      card.querySelector('.place').textContent = where;
    }
    const focused = document.activeElement;
    for (const place of board.querySelectorAll('.column')) {
      const shown = place.querySelector('.chips');
      const wanted = cards.filter((card) => rankOf(card) === Number(place.dataset.rank)).map((card) => chips.get(card));
      // What stands where it should is left alone: a letter that is moved loses the focus.
      if (wanted.some((chip, index) => shown.children[index] !== chip)) shown.append(...wanted);
    }
    column('').classList.toggle('is-empty', cards.every(rankOf));
    if (focused !== document.activeElement && focused?.classList.contains('chip')) focused.focus();
  }

  for (const [card, chip] of chips) {
    chip.addEventListener('click', () => {
      if (chip.dataset.dragged) { delete chip.dataset.dragged; return; }
      select(cards.indexOf(card));
      announce(fill(words().selected, card.dataset.letter));
    }, { signal });
    chip.addEventListener('focus', () => select(cards.indexOf(card), false), { signal });
    chip.addEventListener('keydown', (event) => {
      const way = { ArrowLeft: 'up', ArrowUp: 'up', ArrowRight: 'down', ArrowDown: 'down' }[event.key];
      if (!way) return;
      event.preventDefault();
      move(card, way);
    }, { signal });
    makeDraggable(card, chip);
  }
  for (const place_ of board.querySelectorAll('.column')) {
    place_.addEventListener('click', (event) => {
      if (!event.target.closest('.chip')) place(current(), Number(place_.dataset.rank));
    }, { signal });
  }
  for (const card of cards) {
    for (const button of card.querySelectorAll('[data-move]')) {
      button.addEventListener('click', () => move(card, button.dataset.move), { signal });
    }
  }

  // With any pointer. The edge of a column is the place between two: a line shows where it would land.
  function makeDraggable(card, chip) {
    let start = null;
    let target = null;
    chip.addEventListener('pointerdown', (event) => {
      if (event.button === 0) start = { x: event.clientX, y: event.clientY };
    }, { signal });
    chip.addEventListener('pointermove', (event) => {
      if (!start) return;
      // Let go outside of the letter, where nothing of it was heard.
      if (!(event.buttons & 1)) { end(event); return; }
      const [x, y] = [event.clientX - start.x, event.clientY - start.y];
      if (!chip.classList.contains('is-dragged')) {
        if (Math.hypot(x, y) < 6) return;
        chip.setPointerCapture(event.pointerId);
        // Out of its column, which may scroll and would cut it off; where it is.
        const { left, top } = chip.getBoundingClientRect();
        Object.assign(chip.style, { left: `${left}px`, top: `${top}px` });
        chip.classList.add('is-dragged');
        select(cards.indexOf(card), false);
      }
      chip.style.translate = `${x}px ${y}px`;
      mark(target = targetAt(event.clientX, event.clientY));
    }, { signal });
    const end = (event) => {
      if (!start) return;
      const dragged = chip.classList.contains('is-dragged');
      start = null;
      chip.classList.remove('is-dragged');
      Object.assign(chip.style, { left: '', top: '', translate: '' });
      mark(null);
      if (!dragged) return;
      // The click that follows is the end of the drag.
      chip.dataset.dragged = 'yes';
      setTimeout(() => delete chip.dataset.dragged);
      if (event.type !== 'pointerup' || !target) return;
      if (target.side === 'into') place(card, target.rank);
      else insert(card, target.side === 'before' ? target.rank : target.rank + 1);
    };
    for (const type of ['pointerup', 'pointercancel', 'lostpointercapture']) chip.addEventListener(type, end, { signal });
  }

  function targetAt(x, y) {
    for (const over of board.querySelectorAll('.column')) {
      const { left, right, top, bottom, width } = over.getBoundingClientRect();
      if (x < left || x > right || y < top - 24 || y > bottom + 24) continue;
      const rank = Number(over.dataset.rank);
      const edge = Math.min(width / 4, 24);
      const side = !rank ? 'into' : x < left + edge ? 'before' : x > right - edge ? 'after' : 'into';
      return { over, rank, side };
    }
    return null;
  }

  function mark(target) {
    for (const over of board.querySelectorAll('[data-drop]')) delete over.dataset.drop;
    if (target) target.over.dataset.drop = target.side;
  }

  return { draw, move, place, say, rankOf, isCannot, cannot: (card) => { setRank(card, 'cannot'); done(card); } };
}
