// Drafts that save themselves on every change, and what happens when two windows change the same task.
import { ask, find, words } from './page.js';

export function startDraft({ form, collect, clock, signal }) {
  const url = `/api/v1/assignments/${form.dataset.id}/draft`;
  const status = find('#draft-status');
  const choice = find('#draft-choice');
  const revision = form.elements.revision;
  // Changes so far, and how many of them the server has.
  let typed = 0;
  let kept = 0;
  let timer = 0;
  let slow = 0;
  let saving = false;
  let stopped = false;

  // A live region is read aloud whenever it changes, so the same words are not written again.
  function say(text) {
    if (status.textContent !== text) status.textContent = text;
  }

  function mark() {
    status.dataset.state = typed === kept ? 'saved' : 'changed';
  }

  // Saves what was said so far. The request outlives the page.
  async function save(isRetry = false) {
    if (saving || stopped) return;
    saving = true;
    const sent = typed;
    let retry = false;
    // Most saves are over before anybody could read that one began.
    if (!isRetry) slow = setTimeout(() => say(words().saving), 800);
    try {
      const body = { ...collect(), time: clock.time(), revision: Number(revision.value) };
      const answer = await ask('PUT', url, body);
      const said = await answer.json();
      clearTimeout(slow);
      if (answer.ok) {
        // Also where a submission is on its way: what is typed after it failed is saved over this one.
        revision.value = said.revision;
        kept = sent;
      }
      if (stopped) return;
      retry = [401, 429].includes(answer.status) || answer.status >= 500;
      if (answer.ok) {
        clock.setLease(said.lease_until, said.is_held);
        say(words().saved);
      } else {
        say({ 401: words().signedOut, 409: words().conflict }[answer.status] ?? said.detail);
      }
      choice.hidden = answer.status !== 409;
    } catch {
      clearTimeout(slow);
      retry = true;
      if (!stopped) say(words().offline);
    } finally {
      saving = false;
      mark();
    }
    if (retry) schedule(5000, true);
    else if (typed !== sent) schedule(0);
  }

  function schedule(delay = 600, isRetry = false) {
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(() => save(isRetry), delay);
  }

  function changed() {
    typed += 1;
    mark();
    schedule();
  }

  async function newestRevision() {
    const answer = await fetch(url.replace(/\/draft$/, ''));
    if (!answer.ok) throw new Error(answer.statusText);
    return (await answer.json()).draft_revision;
  }

  // After a conflict: what is here takes the place of the newer draft, because the labeler says so.
  find('#keep-mine').addEventListener('click', async () => {
    try {
      revision.value = await newestRevision();
      await save();
    } catch {
      say(words().offline);
    }
  }, { signal });

  // A page that goes away within the moment before a save sends what was typed first. If it is loaded
  // again, the server may have answered before that arrived; the mark makes the new page look.
  const late = `draft sent late: ${url}`;
  function flush() {
    if (typed === kept || stopped) return;
    sessionStorage.setItem(late, 'yes');
    clearTimeout(timer);
    save();
  }
  addEventListener('beforeunload', flush, { signal });
  addEventListener('pagehide', flush, { signal });
  addEventListener('online', () => { if (typed !== kept) schedule(0); }, { signal });
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) flush();
    else lookForNewerDraft().catch(() => {});
  }, { signal });
  signal.addEventListener('abort', () => { stopped = true; clearTimeout(timer); });

  // In sight again: the labeler may have gone on with the task elsewhere, and would submit what is old.
  async function lookForNewerDraft() {
    if (saving || stopped) return;
    const newest = await newestRevision();
    if (saving || stopped || newest <= Number(revision.value)) return;
    if (typed === kept) { location.reload(); return; }
    say(words().conflict);
    choice.hidden = false;
  }

  async function lookForLateDraft() {
    if (!sessionStorage.getItem(late)) return;
    sessionStorage.removeItem(late);
    const newest = await newestRevision();
    if (typed === 0 && newest > Number(revision.value)) location.reload();
  }
  lookForLateDraft().catch(() => {});

  return {
    changed,
    flush,
    say,
    save: () => { clearTimeout(timer); return save(); },
    isKept: () => typed === kept,
    stop() { stopped = true; clearTimeout(timer); clearTimeout(slow); },
    goOn() { stopped = false; },
  };
}
