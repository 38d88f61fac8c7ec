// Looks again while exports are being built. Without this file the page has a link that does.
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function follow() {
  for (let part = document.querySelector('#exports'); part?.dataset.underway; part = document.querySelector('#exports')) {
    await wait(1000);
    const answer = await fetch(location.pathname);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const fresh = page.querySelector('#exports');
    // Whoever is on a link of the list stays there.
    if (fresh && !part.contains(document.activeElement)) part.replaceWith(fresh);
    else if (fresh) part.dataset.underway = fresh.dataset.underway;
  }
}
document.documentElement.classList.add('has-script');
follow().catch(() => {});
