// The dialogs: one item with all that is known about it, and the question before a change.

function show(dialog) {
  if (!dialog.open) dialog.showModal();
}

for (const button of document.querySelectorAll('[data-close]')) {
  button.addEventListener('click', () => button.closest('dialog').close());
}

// Asks before a change. Resolves to null, or to { then, number }.
function ask({ title, text, effect = '', yes, then = false, requeue = true, number: preset, numberLabel = 'Open requests at most', least = 1, most = 10000, danger = false, never = false }) {
  return new Promise((resolve) => {
    const dialog = byId('confirm-dialog');
    const [button, field] = [byId('confirm-yes'), byId('number')];
    setText(byId('confirm-title'), title);
    setText(byId('confirm-text'), text);
    setText(byId('confirm-effect'), effect);
    byId('confirm-effect').hidden = !effect;
    byId('confirm-then').hidden = !then || never;
    byId('then-requeue').hidden = byId('then-requeue').disabled = !requeue;
    byId('then').value = requeue ? 'requeue' : 'dead-letter';
    setText(byId('number-label'), numberLabel);
    field.min = least;
    byId('confirm-number').hidden = preset === undefined;
    field.value = preset ?? '';
    field.max = most;
    setText(button, yes);
    button.className = `primary${danger ? ' danger' : ''}`;
    button.hidden = never;
    let result = null;
    const agree = () => {
      if (preset !== undefined && !field.reportValidity()) return;
      result = { then: then ? byId('then').value : undefined, number: field.value };
      dialog.close();
    };
    const enter = (event) => {
      if (event.key !== 'Enter') return;
      // The key would press the button that gets the focus back.
      event.preventDefault();
      agree();
    };
    button.onclick = agree;
    field.onkeydown = enter;
    dialog.addEventListener('close', () => resolve(result), { once: true });
    show(dialog);
    if (preset !== undefined) field.select();
  });
}

const shown = { item: null, waiting: null };

function openItem(item) {
  shown.item = item;
  const body = byId('item-body');
  body.replaceChildren(node('div', { id: 'item-facts' }), node('div', {}, node('h3', { text: 'Log of the worker' }), node('pre', { id: 'item-log', tabindex: '0', 'aria-label': 'Log of the worker' })));
  setText(byId('item-title'), item.id);
  showItem(item);
  show(byId('item-dialog'));
  loadItem();
}

function pairs(list) {
  const known = list.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return node('dl', { class: 'pairs' }, ...known.flatMap(([name, value]) => [node('dt', { text: name }), value instanceof Node ? node('dd', {}, value) : node('dd', { text: String(value) })]));
}

function place(item) {
  if (item.topic !== undefined) return `${item.topic}, partition ${item.partition}, offset ${item.offset}`;
  if (item.queue !== undefined) return item.queue + (item.delivery_tag === undefined ? '' : `, delivery tag ${item.delivery_tag}`);
  return null;
}

function showItem(item) {
  rebuild(byId('item-facts'), item, () => {
    const state = node('span', { class: 'badge' });
    badge(state, { [item.state]: [STATE_KINDS[item.state], item.state] }, item.state);
    const parts = [pairs([
      ['State', node('span', {}, state, ' for ', node('span', { 'data-age': item.since, text: age(item.since) }), ` (since ${clock(item.since, fullClocks)})`)],
      ['Reason', item.reason],
      ['Attempt', item.attempt ? `${item.attempt} of ${item.attempts}` : `none yet, of ${item.attempts}`],
      ['Next step', item.next && node('span', {}, node('span', { 'data-until': item.next, text: until(item.next) }), ` (${clock(item.next, fullClocks)})`)],
      ['Ends at the latest', item.deadline && clock(item.deadline, fullClocks)],
      ['Progress', item.progress && progressBar(item.progress, item.id)],
      ['Reported', item.progress && node('span', {}, node('span', { 'data-age': item.progress.at, text: age(item.progress.at) }), ' ago')],
      ['Worker pod', item.pod_stopping ? `${item.pod}, being stopped` : item.pod],
      ['Replica', item.replica],
      ['Place', place(item)],
      ['Pipeline', item.pipeline],
    ])];
    if (item.last) {
      parts.push(node('h3', { text: 'Last answer' }), pairs([
        ['Outcome', item.last.outcome], ['Status', item.last.status], ['At', clock(item.last.at, fullClocks)],
        ...Object.entries(item.last.headers ?? {}),
      ]), node('pre', { text: item.last.text, tabindex: '0', 'aria-label': 'Text of the last answer' }));
    }
    return parts;
  });
  const fits = item.state === 'held' ? ['release', 'retry', 'dead-letter', 'drop'] : FINISHED.has(item.state) ? [] : ['retry', 'hold', 'cancel', 'dead-letter', 'drop'];
  const buttons = byId('item-buttons');
  rebuild(buttons, fits, () => fits.map((action) => node('button', { type: 'button', text: ACTIONS[action].label, 'data-action': action, onclick: () => actOnOne(action) })));
}

async function loadItem() {
  const item = shown.item;
  if (!item || !byId('item-dialog').open) return;
  const path = `items/${encodeURIComponent(item.id)}`;
  const of = query({ pipeline: item.pipeline });
  try {
    const [fresh, log] = await Promise.all([get(`${path}?${of}`), get(`${path}/log?${of}`)]);
    if (shown.item?.id !== item.id) return;
    shown.item = fresh;
    showItem(fresh);
    const element = byId('item-log');
    const atEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - 4;
    setText(element, log.lines.length ? log.lines.join('\n') : 'The worker has reported no lines.');
    if (atEnd) element.scrollTop = element.scrollHeight;
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) {
      setText(byId('item-log'), 'The item has left this replica and is no longer remembered. This is the last known state.');
      byId('item-buttons').replaceChildren();
    }
  }
}

function loadItemSoon() {
  shown.waiting ??= setTimeout(() => {
    shown.waiting = null;
    loadItem();
  }, 300);
}

byId('item-dialog').addEventListener('close', () => { shown.item = null; });

// A change that can be taken back is made at once; the others are asked for.
async function actOnOne(action) {
  const item = shown.item;
  const target = { ids: new Set([item.id]), pipeline: item.pipeline };
  if (ACTIONS[action].danger) {
    await act(action, target);
  } else {
    try {
      const { changed } = await perform(action, target, {});
      toast(changed ? `${item.id}: ${ACTIONS[action].done}` : `${item.id}: nothing changed, since this does not fit an item that is ${item.state}`);
    } catch (error) {
      failed(error);
    }
    loadItems();
  }
  loadItem();
}
