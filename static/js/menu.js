// Groups of the navigation close as menus do: by Escape, by a click elsewhere, and when the keyboard leaves them. They
// open and close without this, too.
const opened = () => document.querySelector('.nav-group[open]');

document.addEventListener('keydown', (event) => {
  const group = opened();
  if (event.key !== 'Escape' || !group) return;
  const isWithin = group.contains(document.activeElement);
  group.open = false;
  if (isWithin) group.querySelector('summary').focus();
});

for (const kind of ['click', 'focusin']) {
  document.addEventListener(kind, (event) => {
    const group = opened();
    if (group && !group.contains(event.target)) group.open = false;
  });
}
