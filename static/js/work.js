// What every kind of task shares: its clock and its break, its draft, and its submission, which is kept in the
// browser until the server has it.
import { startClock } from './clock.js';
import { confirmSubmitted, deliver, drop, eachLeft, keep, noteHandedOver, noteSubmitted } from './outbox.js';
import { ask, find, newKey, notice, words } from './page.js';
import { startDraft } from './saving.js';

// Longest wait for a draft that is being saved before what was said is submitted.
const PATIENCE_MS = 3000;

// `collect` reads what was said as the API takes it, `bringBack` puts it into the form, and `next` goes on after
// a first submission.
export function startWork({ form, collect, bringBack, next, signal }) {
  const { id, owner } = form.dataset;
  const isCorrection = form.elements.replaces.value !== '';
  const clock = startClock(form, signal);
  const draft = startDraft({ form, collect, bringBack, clock, signal });
  let sending = null;
  watchBar(signal);

  // Something was said: save it. While a submission waits for a connection, what is said now counts.
  function changed() {
    if (sending) stopSending();
    draft.changed();
  }

  function submit() {
    if (sending) return;
    find('#errors')?.remove();
    draft.stop();
    const replaces = form.elements.replaces.value;
    // Which version is the newest only the server knows.
    if (replaces === 'newest') { handOver(); return; }
    const entry = keep('submission', {
      id, owner, page: location.pathname,
      url: `/api/v1/assignments/${id}/submission${replaces && `?replaces=${replaces}`}`,
      key: form.elements.idempotency_key.value,
      body: { ...collect(), time: clock.time(), revision: Number(form.elements.revision.value) },
    });
    draft.forget();
    finish(entry);
  }

  async function finish(entry, isLeftover = false) {
    const own = new AbortController();
    sending = { own, entry };
    signal.addEventListener('abort', () => own.abort());
    draft.say(words().sending);
    if (!isLeftover) {
      // A draft that is on its way changes the revision.
      await Promise.race([draft.settled(), new Promise((resolve) => { setTimeout(resolve, PATIENCE_MS); })]);
      if (own.signal.aborted) return;
      draft.forget();
      entry.body.revision = Number(form.elements.revision.value);
      keep('submission', entry);
    }
    const tell = (state) => {
      draft.say({ 'signed-out': words().keptSignedOut, busy: words().keptBusy }[state] ?? words().kept);
    };
    const { state, status, said } = await deliver(entry, own.signal, tell);
    if (state === 'stopped') return;
    if (state === 'sent') {
      drop(entry);
      await goOn(said.version);
    } else if (status === 403 || status === 404) leave(said.detail);
    else if (isLeftover) takeBack(entry, status);
    else handOver(entry);
  }

  // The task is not this account's to work on any more. That may change, so it stays kept.
  function leave(reason) {
    sending = null;
    draft.goOn();
    draft.say(reason);
  }

  // What an earlier page kept, and this one has in its form, was not taken: the labeler decides.
  function takeBack(entry, status) {
    sending = null;
    draft.goOn();
    notice('brought-back', words().broughtBack, { kind: 'alert-warn' });
    if (status === 409) draft.leaveOpen();
    else draft.changed();
    draft.keepHere();
    drop(entry);
  }

  function stopSending() {
    sending.own.abort();
    draft.keepHere();
    drop(sending.entry);
    sending = null;
    form.elements.idempotency_key.value = newKey();
    draft.goOn();
  }

  // The server refused it: its own page says why, in words, with everything still there. Kept until that page is
  // there, since the connection may be lost before.
  function handOver(entry) {
    noteHandedOver(draft.keepHere());
    if (entry) drop(entry);
    const action = document.createElement('input');
    Object.assign(action, { type: 'hidden', name: 'action', value: 'submit' });
    form.append(action);
    clock.time();
    // The button's id hides the form's own method.
    HTMLFormElement.prototype.submit.call(form);
  }

  async function goOn(version) {
    noteSubmitted(version, clock.isOver(), 'candidate' in form.dataset);
    if (isCorrection) location.assign('/work');
    else await next();
  }

  const pause = find('#break');
  function takeBreak() {
    draft.save();
    clock.pause();
    pause.showModal();
  }
  find('#break-button')?.addEventListener('click', takeBreak, { signal });
  pause.addEventListener('close', () => clock.resume(), { signal });

  // Come by a link, which changes nothing: the task is in sight from now on.
  async function open() {
    const answer = await ask('POST', `/work/${id}/open`);
    if (!answer.ok) return;
    const lease = await answer.json();
    clock.setLease(lease.lease_until, lease.is_held);
  }
  if (form.dataset.isOpened === 'false') open().catch(() => {});

  // What is given back is not written any more, once it is given back: the page that follows finds out.
  find('#skip form')?.addEventListener('submit', () => {
    draft.stop();
    if (draft.hasUnsaved()) draft.keepHere({ isGivenBack: true });
  }, { signal });

  // Once the page is drawn: what earlier pages left.
  function begin() {
    confirmSubmitted();
    const errors = find('#errors');
    errors?.focus();
    // What a refused submit brought back may be newer than the draft; or there is a newer one.
    if (errors?.querySelector(`a[href="${form.getAttribute('action')}"]`)) draft.leaveOpen();
    else if (errors) draft.changed();
    eachLeft('submission', owner, id, (left) => {
      // What is typed here comes first; that one waits for the next page.
      if (signal.aborted || sending || draft.isTouched()) return undefined;
      draft.stop();
      bringBack(left.body);
      return finish(left, true);
    });
    draft.lookForKept();
  }

  return { begin, changed, clock, draft, isCorrection, isSending: () => sending !== null, submit, takeBreak };
}

// What the bar at the bottom covers, so that nothing that has the focus lies under it: it grows with what it says.
function watchBar(signal) {
  const watch = new ResizeObserver(([{ target }]) => {
    document.documentElement.style.setProperty('--bar', `${target.offsetHeight}px`);
  });
  watch.observe(find('.finish'), { box: 'border-box' });
  signal.addEventListener('abort', () => watch.disconnect());
}
