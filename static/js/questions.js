// Asks about the task without leaving its page. Without this file the form opens a window of its own.
import { newKey } from './page.js';

function start() {
  const part = document.querySelector('#questions');
  if (!part) return;
  const form = part.querySelector('form');
  const asked = part.querySelector('#questions-asked');
  const status = part.querySelector('#questions-status');
  const words = status.dataset;
  form.removeAttribute('target');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = form.querySelector('button');
    button.disabled = true;
    status.textContent = '';
    try {
      // The answer is the list of one's questions, with this one in it.
      const body = new URLSearchParams(new FormData(form));
      const answer = await fetch(form.action, { method: 'POST', body });
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const own = page.querySelectorAll(`[data-assignment="${CSS.escape(form.elements.assignment_id.value)}"]`);
      if (!own.length) throw new Error('the question is not there');
      asked.replaceChildren(...[...own].map((item) => document.importNode(item, true)));
      form.elements.question.value = '';
      form.elements.key.value = newKey();
      status.textContent = words.sent;
    } catch {
      status.textContent = words.failed;
    }
    button.disabled = false;
  });
}

start();
// The labeling page puts the next task in the place of this one.
document.addEventListener('page-shown', start);
