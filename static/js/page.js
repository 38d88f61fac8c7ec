// What the modules of a task's page share: its words, its notices, its voice and its requests.
export const find = (css) => document.querySelector(css);
export const words = () => find('#words').dataset;

// Puts values where a sentence has # or #name.
export function fill(sentence, values) {
  if (typeof values !== 'object') return sentence.replace('#', values);
  return sentence.replace(/#(\w+)/g, (mark, name) => values[name] ?? mark);
}

// Says something to those who do not see the page. The same words twice are read twice.
export function announce(text) {
  const region = find('#announcer');
  region.textContent = region.textContent === text ? `${text}\u00a0` : text;
}

// A line above the task; one with the same name takes its place. `links` are [text, address].
export function notice(name, text, { kind = '', links = [] } = {}) {
  dismiss(name);
  const line = document.createElement('p');
  line.className = `alert ${kind}`;
  line.dataset.notice = name;
  line.append(text);
  for (const [label, address] of links) {
    const link = document.createElement('a');
    link.href = address;
    link.textContent = label;
    line.append(' ', link);
  }
  find('#notices').append(line);
  // A live region that comes with its words is not heard.
  announce(text);
  return line;
}

export function dismiss(name) {
  find(`#notices [data-notice="${name}"]`)?.remove();
}

// A request may outlive its page only if it is small; a long text is not sent at all otherwise.
const SMALL = 60_000;

// A request that a script makes: JSON both ways. It names the account whose page this is: somebody else may have
// signed in since, in another window, and it is not theirs.
export function ask(method, url, body, headers = {}) {
  const owner = find('[data-owner]')?.dataset.owner;
  const options = { method, headers: { ...headers, ...(owner && { 'plackett-account': owner }) }, keepalive: true };
  if (body !== undefined) {
    options.headers['content-type'] = 'application/json';
    options.body = JSON.stringify(body);
    options.keepalive = new Blob([options.body]).size < SMALL;
  }
  return fetch(url, options);
}

// A key for a submission.
export const newKey = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

// Goes on to whatever the queue has, as the button on /work does. A candidate stays in their screening, even
// when its last task made them a labeler: how it went comes before the first task.
export function goToWork() {
  const form = document.createElement('form');
  form.method = 'post';
  form.action = find('form[data-candidate]') ? '/work?screening=true' : '/work';
  document.body.append(form);
  form.submit();
}
