// The prompt stays in sight while the candidates scroll below it, with its first lines: the room is theirs. A
// button shows the rest. Where there is room beside the candidates it is always whole.
import { find } from './page.js';

// As app.css has it.
const IS_ABOVE = matchMedia('(min-height: 36rem) and (max-width: 89.99rem)');
const LEAST_REM = 5.5;

export function startPrompt(signal) {
  const prompt = find('.prompt');
  const more = find('#prompt-more');
  const words = { more: more.textContent, less: more.dataset.less };
  let opened = false;
  let isFolded = false;
  // Its height with nothing folded away.
  let whole = 0;
  // What is written already: the same again would lay the page out once more, at every scroll.
  let drawn = '';

  // It gives way as far as the page is scrolled, so that it never covers what comes after it; in the place of
  // what is folded away stands a margin, so that nothing moves.
  function fit() {
    const least = LEAST_REM * parseFloat(getComputedStyle(document.documentElement).fontSize);
    // Only as it is unfolded: what is measured of what this has written may move the page, and so call for the
    // next scroll, and so on. Not `offsetHeight`, which is rounded.
    if (!isFolded) whole = prompt.getBoundingClientRect().height;
    const passed = IS_ABOVE.matches ? Math.max(0, -prompt.parentElement.getBoundingClientRect().top) : 0;
    const height = Math.min(whole, Math.max(least, whole - passed));
    if (height > least) opened = false;
    isFolded = height < whole && !opened;
    const isNeeded = height <= least && whole > least;
    const wanted = [isFolded, isFolded && height, opened, isNeeded].join();
    if (wanted !== drawn) draw(height, height === least, isNeeded);
    drawn = wanted;
  }

  function draw(height, isLeast, isNeeded) {
    prompt.classList.toggle('is-small', isFolded && isLeast);
    prompt.style.maxHeight = isFolded ? `${height}px` : '';
    prompt.style.marginBottom = isFolded ? `${whole - height}px` : '';
    // What is hidden loses the focus, and the keyboard its place.
    if (!isNeeded && document.activeElement === more) prompt.focus({ preventScroll: true });
    more.hidden = !isNeeded;
    more.textContent = opened ? words.less : words.more;
    more.setAttribute('aria-expanded', opened);
  }

  // Another width breaks the lines elsewhere.
  function measureAgain() {
    isFolded = false;
    draw(0, false, !more.hidden);
    drawn = '';
    fit();
  }

  more.addEventListener('click', () => {
    opened = !opened;
    fit();
    prompt.scrollTop = 0;
  }, { signal });
  addEventListener('scroll', fit, { passive: true, signal });
  addEventListener('resize', measureAgain, { signal });
  fit();
}
