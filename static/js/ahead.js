// The next task, leased and fetched while the labeler works on this one, and shown without a wait. Where
// anything is not as it should be, an ordinary page load takes its place.
import { ask, find } from './page.js';

const RENEW_MS = 4 * 60_000;
const LEASE_MS = 5 * 60_000;
const PATIENCE_MS = 500;

// Begins once the page is quiet. `isActive` says whether somebody is at work: only then is it renewed.
export function startAhead(isActive, signal) {
  let next = null;
  let at = 0;
  let fetching = null;

  async function get() {
    const answer = await ask('POST', '/work/ahead');
    if (answer.status !== 201) { next = null; return; }
    const { path } = await answer.json();
    at = Date.now();
    if (next?.path === path) return;
    next = null;
    // Pages of other kinds are shown by their own load; the lease alone saves a wait.
    if (!path.startsWith('/rank/')) return;
    const page = await fetch(`${path}?ahead=true`);
    if (page.ok && !page.redirected) next = { path, html: await page.text() };
  }

  function run() {
    fetching = get().catch(() => { next = null; });
  }
  const idle = window.requestIdleCallback ?? ((then) => setTimeout(then, 200));
  const first = setTimeout(() => idle(run), 800);
  const renewing = setInterval(() => { if (isActive()) run(); }, RENEW_MS);
  signal.addEventListener('abort', () => { clearTimeout(first); clearInterval(renewing); });

  return {
    // The page that waits, if its lease still stands. A connection that hangs is not waited for.
    async take() {
      await Promise.race([fetching, new Promise((resolve) => { setTimeout(resolve, PATIENCE_MS); })]);
      return next && Date.now() - at < LEASE_MS ? next : null;
    },
  };
}

// Shows a page that was fetched ahead. False where it does not fit the one in sight: another version of the
// program, another language or account.
export async function showPage({ path, html }) {
  const page = new DOMParser().parseFromString(html, 'text/html');
  const same = (read) => read(page) === read(document);
  const main = page.querySelector('main');
  const fits = main?.querySelector('#rank-form')
    && same((doc) => doc.documentElement.lang)
    && same((doc) => doc.querySelector('link[rel=stylesheet]').getAttribute('href'))
    && same((doc) => doc.querySelector('#rank-form')?.dataset.owner);
  if (!fits) return false;
  const id = main.querySelector('#rank-form').dataset.id;
  const opened = await ask('POST', `/work/${id}/open`);
  if (!opened.ok) return false;
  const lease = await opened.json();
  const form = main.querySelector('#rank-form');
  // Lost to somebody else, or already begun in another window.
  if (!lease.is_held || String(lease.revision) !== form.elements.revision.value) return false;
  form.dataset.leaseUntil = lease.lease_until;
  form.dataset.isOpened = 'true';
  find('main').replaceWith(document.adoptNode(main));
  // It tells of answers that have come.
  const nav = page.querySelector('.site-nav');
  if (nav) find('.site-nav')?.replaceWith(document.adoptNode(nav));
  document.title = page.title;
  for (const back of document.querySelectorAll('input[name=back]')) back.value = path;
  history.pushState(null, '', path);
  shown = location.pathname;
  scrollTo({ top: 0, behavior: 'instant' });
  find('#title').focus({ preventScroll: true });
  // For other modules that have a part of the page.
  document.dispatchEvent(new Event('page-shown'));
  return true;
}

// Back and forward lead to pages that this one has replaced. A link to a part of the page in sight does not.
let shown = location.pathname;
addEventListener('popstate', () => { if (location.pathname !== shown) location.reload(); });
