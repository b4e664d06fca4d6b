// The items of the chosen pipeline: filter, pages, selection, and actions on many at once.

const PAGE = 100;
const view = { states: new Set(), trail: [], next: null, items: [], total: 0, picked: new Map(), all: false, loaded: 0 };
const rows = new Map();
const chips = new Map();

// The query of the filter, without a page.
function filterQuery(more = {}) {
  return query({ state: [...view.states].join(','), reason: byId('filter-reason').value.trim(), older: byId('filter-older').value, key: byId('filter-key').value.trim(), ...more });
}

function resetItems() {
  byId('filter').reset();
  startOver();
  view.states.clear();
  view.items = [];
  byId('rows').replaceChildren();
  rows.clear();
}

function startOver() {
  view.trail = [];
  view.picked.clear();
  view.all = false;
}

function showStates(pipeline) {
  if (!chips.size) {
    for (const state of STATES) {
      const total = node('b');
      const chip = node('button', { type: 'button', class: 'chip', 'aria-pressed': 'false', onclick: () => {
        if (!view.states.delete(state)) view.states.add(state);
        startOver();
        showStates(pipelines.get(chosen));
        loadItems();
      } }, state, total);
      chips.set(state, { chip, total });
      byId('states').append(chip);
    }
  }
  for (const [state, { chip, total }] of chips) {
    setText(total, number(count(pipeline, state)));
    setAttribute(chip, 'aria-pressed', String(view.states.has(state)));
    setAttribute(chip, 'data-none', count(pipeline, state) ? null : '');
  }
}

// Two items may have the same id, so their places belong to their names.
function keysOf(items) {
  const seen = new Map();
  return items.map((item) => {
    const key = JSON.stringify([item.id, item.queue, item.delivery_tag, item.topic, item.partition, item.offset]);
    const times = (seen.get(key) ?? 0) + 1;
    seen.set(key, times);
    return key + times;
  });
}

function nextStep(item) {
  if (item.state === 'running' && item.deadline) return [`ends by ${clock(item.deadline)}`, null];
  if (item.next) return [until(item.next), item.next];
  return ['', null];
}

function answerText(item) {
  const last = item.last && [item.last.status ?? item.last.outcome, item.last.text].filter(Boolean).join(': ');
  return [item.reason, last].filter(Boolean).join(' · ');
}

function makeRow(key) {
  const row = {
    pick: node('input', { type: 'checkbox', onchange: () => { pick(key, row.pick.checked); } }),
    id: node('button', { type: 'button', class: 'link', onclick: () => openItem(row.item) }),
    state: node('span', { class: 'badge' }), attempt: node('td', { class: 'short', 'data-label': 'Attempt' }), age: node('span', { 'data-age': '' }),
    next: node('span', {}), progress: node('td', { class: 'bar-cell', 'data-label': 'Progress' }), answer: node('span', {}),
  };
  row.nextCell = node('td', { class: 'short', 'data-label': 'Next step' });
  row.answerCell = node('td', { class: 'answer', 'data-label': 'Last answer' });
  row.node = node('tr', {}, node('td', { class: 'pick' }, row.pick), node('td', { class: 'id' }, row.id), node('td', {}, row.state),
    row.attempt, node('td', { class: 'short', 'data-label': 'For' }, row.age), row.nextCell, row.progress, row.answerCell);
  return row;
}

function showRow(row, item, key) {
  row.item = item;
  setText(row.id, item.id || '(empty id)');
  setAttribute(row.pick, 'aria-label', `Select ${item.id}`);
  row.pick.checked = view.all || view.picked.has(key);
  setAttribute(row.node, 'data-picked', row.pick.checked ? '' : null);
  badge(row.state, Object.fromEntries(STATES.map((state) => [state, [STATE_KINDS[state], state]])), item.state);
  setText(row.attempt, item.attempt ? `${item.attempt} of ${item.attempts}` : 'none yet');
  row.age.dataset.age = item.since;
  setText(row.age, age(item.since));
  const [next, time] = nextStep(item);
  row.nextCell.replaceChildren(...(next ? [row.next] : []));
  setAttribute(row.next, 'data-until', time);
  setText(row.next, next);
  rebuild(row.progress, item.progress, () => (item.progress ? [progressBar(item.progress, item.id)] : []));
  const answer = answerText(item);
  row.answerCell.replaceChildren(...(answer ? [row.answer] : []));
  setText(row.answer, answer);
}

function progressBar(progress, id) {
  const parts = [];
  if (progress.percent !== undefined) {
    parts.push(node('progress', { max: 100, value: progress.percent, 'aria-label': `Progress of ${id}` }), node('span', { class: 'percent', text: `${Math.round(progress.percent)} %` }));
  }
  if (progress.note) parts.push(node('span', { text: progress.note }));
  return node('div', { class: 'progress' }, ...parts);
}

function showItems() {
  const keys = keysOf(view.items);
  for (const key of rows.keys()) if (!keys.includes(key)) rows.delete(key);
  view.items.forEach((item, index) => {
    if (!rows.has(keys[index])) rows.set(keys[index], makeRow(keys[index]));
    showRow(rows.get(keys[index]), item, keys[index]);
  });
  arrange(byId('rows'), keys.map((key) => rows.get(key).node));
  const isFiltered = filterQuery() !== '';
  const none = byId('no-items');
  none.hidden = view.items.length > 0;
  setText(none, isFiltered ? 'No item matches this filter.' : 'There are no items: none is in hand, and none has finished since the start.');
  const first = view.trail.length * PAGE + 1;
  setText(byId('page-text'), view.items.length ? `${number(first)} to ${number(first + view.items.length - 1)} of ${number(view.total)}` : '');
  setText(byId('items-caption'), `Items of ${chosen}`);
  byId('page-back').disabled = !view.trail.length;
  byId('page-on').disabled = !view.next;
  showSelection();
}

function pick(key, on) {
  if (view.all) {
    // From "all that match" to those of this page.
    view.all = false;
    for (const [other, row] of rows) view.picked.set(other, row.item);
  }
  if (on) view.picked.set(key, rows.get(key).item);
  else view.picked.delete(key);
  showItems();
}

function showSelection() {
  const shown = [...rows.keys()];
  const picked = shown.filter((key) => view.all || view.picked.has(key)).length;
  const box = byId('pick-page');
  box.checked = shown.length > 0 && picked === shown.length;
  box.indeterminate = picked > 0 && picked < shown.length;
  box.disabled = shown.length === 0;
  const selected = view.all ? view.total : view.picked.size;
  const text = view.all ? `All ${plural(view.total, 'item')} that match ${view.total === 1 ? 'is' : 'are'} selected` : selected ? `${plural(selected, 'item')} selected` : 'No item selected';
  setText(byId('scope'), text);
  const all = byId('scope-all');
  all.hidden = view.total === 0;
  setText(all, view.all || selected ? 'Select none' : `Select all ${number(view.total)} that match`);
  if (selected && !view.all && box.checked && view.total > selected) setText(all, `Select all ${number(view.total)} that match`);
  for (const button of byId('bulk-buttons').children) button.disabled = selected === 0;
}

byId('scope-all').addEventListener('click', (event) => {
  view.all = event.target.textContent !== 'Select none';
  view.picked.clear();
  showItems();
});

byId('pick-page').addEventListener('change', (event) => {
  const on = event.target.checked;
  view.all = false;
  for (const [key, row] of rows) {
    if (on) view.picked.set(key, row.item);
    else view.picked.delete(key);
  }
  showItems();
});

let loads = 0;
async function loadItems() {
  const load = ++loads;
  const name = chosen;
  if (name === null) return;
  view.loaded = Date.now();
  try {
    const after = view.trail.at(-1);
    const list = await get(`pipelines/${encodeURIComponent(name)}/items?${filterQuery({ limit: PAGE, after })}`);
    if (load !== loads || name !== chosen) return;
    if (!list.items.length && after) {
      // The page is gone since its items have ended.
      view.trail.pop();
      loadItems();
      return;
    }
    Object.assign(view, { items: list.items, total: list.total, next: list.next ?? null });
    showItems();
  } catch (error) {
    if (load !== loads) return;
    if (error instanceof Refusal && error.status === 400) failed(error);
  }
}

// Loads the items again after changes, at most once in a second.
let waiting = null;
function loadItemsSoon() {
  if (document.hidden) return;
  waiting ??= setTimeout(() => {
    waiting = null;
    loadItems();
  }, Math.max(50, view.loaded + 1000 - Date.now()));
}

byId('filter').addEventListener('submit', (event) => {
  event.preventDefault();
  startOver();
  loadItems();
});
byId('filter').addEventListener('reset', () => {
  view.states.clear();
  // The fields are empty after this event.
  setTimeout(() => {
    startOver();
    if (chosen !== null) showStates(pipelines.get(chosen));
    loadItems();
  });
});
byId('filter-older').addEventListener('change', () => byId('filter').requestSubmit());
byId('page-on').addEventListener('click', () => {
  if (!view.next) return;
  view.trail.push(view.next);
  loadItems();
});
byId('page-back').addEventListener('click', () => {
  view.trail.pop();
  loadItems();
});

for (const [action, { label }] of Object.entries(ACTIONS)) {
  byId('bulk-buttons').append(node('button', { type: 'button', text: label, 'data-action': action, disabled: true, onclick: () => actOnMany(action) }));
}

// Performs `step` for each value, a few at a time.
async function each(values, step) {
  const queue = [...values];
  const results = [];
  await Promise.all(Array.from({ length: 4 }, async () => {
    while (queue.length) results.push(await step(queue.shift()));
  }));
  return results;
}

// One request for all that match, or one for each selected id. Resolves to { matched, changed }.
async function perform(action, target, more) {
  if (target.all) return post(`pipelines/${encodeURIComponent(target.pipeline)}/items/${action}?${query({ ...target.filter, ...more })}`);
  const answers = await each(target.ids, async (id) => {
    try {
      return await post(`items/${encodeURIComponent(id)}/${action}?${query({ pipeline: target.pipeline, ...more })}`);
    } catch (error) {
      // It has ended since.
      if (error instanceof Refusal && error.status === 404) return { matched: 1, changed: 0 };
      throw error;
    }
  });
  return answers.reduce((sum, { matched, changed }) => ({ matched: sum.matched + matched, changed: sum.changed + changed }), { matched: 0, changed: 0 });
}

async function actOnMany(action) {
  const target = view.all
    ? { all: true, pipeline: chosen, filter: Object.fromEntries(new URLSearchParams(filterQuery())) }
    : { ids: new Set([...view.picked.values()].map((item) => item.id)), pipeline: chosen };
  await act(action, target);
}

async function act(action, target) {
  const { label, done, effect, then, danger } = ACTIONS[action];
  const word = label.replace('…', '');
  try {
    const dry = await perform(action, target, { dry_run: 'true' });
    const choice = await ask({
      title: `${word}: ${plural(dry.matched, 'item')}`,
      text: effect,
      effect: dry.changed ? `This changes ${number(dry.changed)} of ${plural(dry.matched, 'item')}.` : `This changes none of ${plural(dry.matched, 'item')}: the action does not fit their states.`,
      yes: `${word} ${plural(dry.changed, 'item')}`, then, danger, never: !dry.changed,
    });
    if (!choice) return;
    const result = await perform(action, target, { then: choice.then });
    toast(`${number(result.changed)} of ${plural(result.matched, 'item')} ${done}`);
    startOver();
  } catch (error) {
    failed(error);
  }
  loadItems();
  refresh();
}
