// Time in a task: active (page in sight, and a key or the pointer used within the last minute), idle, and
// what is left of the lease. It moves without being read aloud; only the end of the lease is said.
import { announce, dismiss, fill, find, notice, words } from './page.js';

const ACTIVE_MS = 60_000;
const SOON_MS = 5 * 60_000;

// How far this computer's clock is ahead of the server's, which leases go by. As of when the document came.
const AHEAD_MS = Date.now() - (Date.parse(find('form[data-now]')?.dataset.now) || Date.now());
const serverNow = () => Date.now() - AHEAD_MS;

export function startClock(form, signal) {
  let active = Number(form.dataset.activeMs);
  let idle = Number(form.dataset.idleMs);
  let leaseUntil = Date.parse(form.dataset.leaseUntil);
  const isLease = find('#lease-left') !== null && find('#time-spent') !== null;
  let held = true;
  let paused = false;
  let last = Date.now();
  let touched = last;
  let said = '';

  function tick() {
    const now = Date.now();
    const passed = Math.max(0, now - last);
    last = now;
    if (!paused) {
      if (!document.hidden && now - touched < ACTIVE_MS) active += passed;
      else idle += passed;
    }
    form.elements.active_ms.value = Math.round(active);
    form.elements.idle_ms.value = Math.round(idle);
    if (isLease) show();
  }

  function show() {
    const left = leaseUntil - serverNow();
    const text = left > 0 && held ? leftInWords(left) : words().over;
    write('#lease-left', text);
    write('#break-lease', `${untilInWords()} (${text})`);
    write('#time-spent', fill(words().spent, { active: inWords(active), idle: inWords(idle) }));
    const state = left <= 0 || !held ? 'ended' : left < SOON_MS ? 'soon' : '';
    if (state === said) return;
    said = state;
    dismiss('lease');
    if (state === 'ended') notice('lease', words().ended, { kind: 'alert-warn' });
    // A short lease is no surprise at its beginning.
    if (state === 'soon') announce(words().leaseSoon);
  }

  const leftInWords = (left) => (left < 2 * 60_000 ? words().leftLittle : fill(words().left, Math.floor(left / 60_000)));
  const untilInWords = () => fill(words().until, new Date(leaseUntil).toISOString().slice(11, 16));

  // Seconds only as long as there is no minute: a figure that changes all the time disturbs.
  function inWords(ms) {
    const seconds = Math.floor(ms / 1000);
    if (seconds < 60) return fill(words().seconds, Math.floor(seconds / 10) * 10);
    return fill(words().minutes, Math.floor(seconds / 60));
  }

  const touch = () => { touched = Date.now(); };
  // Not `scroll`: a page scrolls by itself, too.
  for (const event of ['keydown', 'pointerdown', 'pointermove', 'touchmove', 'wheel', 'input']) {
    addEventListener(event, touch, { passive: true, signal });
  }
  document.addEventListener('visibilitychange', tick, { signal });
  const timer = setInterval(tick, 1000);
  signal.addEventListener('abort', () => clearInterval(timer));
  tick();

  return {
    time() {
      tick();
      return { active_ms: Math.round(active), idle_ms: Math.round(idle) };
    },
    isActive: () => !paused && !document.hidden && Date.now() - touched < ACTIVE_MS,
    isOver: () => isLease && (!held || serverNow() > leaseUntil),
    pause() { tick(); paused = true; },
    resume() { tick(); paused = false; touch(); },
    // What the server says of the lease.
    setLease(until, isHeld) {
      leaseUntil = Date.parse(until);
      held = isHeld;
      tick();
      write('#lease-until', untilInWords());
    },
  };
}

function write(css, text) {
  const place = find(css);
  if (place && place.textContent !== text) place.textContent = text;
}
