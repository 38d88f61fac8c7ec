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

  // It gives way as far as the page is scrolled, so that it never covers what comes after it; in the place of
  // what is folded away stands a margin, so that nothing moves.
  function fit() {
    const least = LEAST_REM * parseFloat(getComputedStyle(document.documentElement).fontSize);
    // Not `offsetHeight`, which is rounded: the sum would creep, move the page and so call for the next scroll.
    const whole = prompt.getBoundingClientRect().height + (parseFloat(prompt.style.marginBottom) || 0);
    const passed = IS_ABOVE.matches ? Math.max(0, -prompt.parentElement.getBoundingClientRect().top) : 0;
    const height = Math.min(whole, Math.max(least, whole - passed));
    if (height > least) opened = false;
    const isFolded = height < whole && !opened;
    prompt.classList.toggle('is-small', isFolded && height === least);
    prompt.style.maxHeight = isFolded ? `${height}px` : '';
    prompt.style.marginBottom = isFolded ? `${whole - height}px` : '';
    more.hidden = height > least || whole <= least;
    more.textContent = opened ? words.less : words.more;
    more.setAttribute('aria-expanded', opened);
  }

  more.addEventListener('click', () => {
    opened = !opened;
    fit();
    prompt.scrollTop = 0;
  }, { signal });
  addEventListener('scroll', fit, { passive: true, signal });
  addEventListener('resize', fit, { signal });
  fit();
}
