// The start, the stream of changes and the clock.

for (const [link, target] of [['skip', 'main'], ['skip-items', 'pages']]) {
  byId(link).addEventListener('click', (event) => {
    event.preventDefault();
    byId(target).focus();
  });
}

function changed(change) {
  if (change === null || typeof change !== 'object') {
    // The stream was too fast for this page, and says how many changes it left out.
    refresh().then(loadItemsSoon);
    return;
  }
  if (change.kind === 'pipeline') {
    accept(change);
    draw();
    return;
  }
  if (change.pipeline !== chosen) return;
  loadItemsSoon();
  if (shown.item?.id === change.id) loadItemSoon();
}

// Ages and times to the next step go on between two answers.
setInterval(() => {
  for (const element of document.querySelectorAll('[data-age]')) if (element.dataset.age) setText(element, age(element.dataset.age));
  for (const element of document.querySelectorAll('[data-until]')) setText(element, until(element.dataset.until));
}, 1000);

// With the stream this only finds a lost connection and moves the charts on. Without the stream it
// reads every change.
let asked = 0;
setInterval(() => {
  if (document.hidden && !link.lostSince) return;
  const pause = link.lostSince ? 2000 : link.live ? 15000 : 5000;
  if (Date.now() - asked < pause) return;
  asked = Date.now();
  refresh();
  if (!link.live) {
    loadItemsSoon();
    loadItemSoon();
  }
}, 500);

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) refresh().then(loadItemsSoon);
});
addEventListener('hashchange', () => {
  const wanted = wantedName();
  if (pipelines.has(wanted) && wanted !== chosen) choose(wanted);
});

showToken();
showLink();
refresh();
listen(changed, () => refresh().then(loadItemsSoon));
