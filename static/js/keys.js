// Ctrl+Enter, which submits a task of any kind.
const isEnter = (event) => event.key === 'Enter' && (event.ctrlKey || event.metaKey);

export function submitByKey(form, submit, signal) {
  document.addEventListener('keydown', (event) => {
    if (!isEnter(event) || document.querySelector('dialog[open]')) return;
    // In a form of its own, such as that of a question, it is not the task that is meant.
    const own = event.target.form ?? event.target.closest('form');
    if (own && own !== form) return;
    event.preventDefault();
    submit();
  }, { signal });
}

// Keys of the labeling page, as the account chose them: `next=j previous=k ...`.
export function startKeys(form, handlers, signal) {
  const actions = new Map();
  for (const word of form.dataset.keys.split(' ')) {
    // The key itself may be "=".
    const at = word.indexOf('=');
    actions.set(word.slice(at + 1), word.slice(0, at));
  }
  const areOn = form.dataset.keysOn === 'true';

  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]')) return;
    if (isEnter(event)) return;
    const writes = event.target.matches('textarea, select, input:not([type=radio], [type=checkbox])');
    if (writes && event.key === 'Escape') handlers.leave(event.target);
    if (writes || !areOn || event.ctrlKey || event.metaKey || event.altKey) return;
    const chosen = actions.get(event.key.toLowerCase());
    // A digit ranks; the other sign on its key, which most keyboards give with Shift, rates.
    const digit = /^[0-9]$/.exec(event.key)?.[0];
    const shifted = digit || chosen ? null : /^Digit([1-9])$/.exec(event.code)?.[1];
    const handled = digit || shifted
      ? handlers.digit(Number(digit ?? shifted), Boolean(shifted), event)
      : handlers[chosen]?.(event);
    if (handled !== undefined && handled !== false) event.preventDefault();
  }, { signal });
}
