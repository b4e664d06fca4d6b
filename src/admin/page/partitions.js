// The Kafka partitions that this replica reads, with their actions.

const partitionRows = new Map();

const partitionName = (one) => `${one.topic}/${one.partition}`;
const partitionPath = (one, action) => `pipelines/${encodeURIComponent(chosen)}/partitions/${encodeURIComponent(one.topic)}/${one.partition}/${action}`;

function makePartition() {
  const row = { name: node('span', {}), state: node('span', { class: 'badge', 'data-kind': 'warn', text: 'paused' }), from: node('td', { 'data-label': 'First unfinished offset' }), age: node('td', { 'data-label': 'For' }), lag: node('td', { 'data-label': 'Records from there' }) };
  row.pause = node('button', { type: 'button', onclick: () => changePartition(row.one, row.one.paused ? 'resume' : 'pause') });
  row.skip = node('button', { type: 'button', text: 'Skip a record…', onclick: () => skipRecord(row.one) });
  row.node = node('tr', {}, node('th', { scope: 'row' }, row.name, ' ', row.state), row.from, row.age, row.lag, node('td', {}, node('div', { class: 'buttons' }, row.pause, row.skip)));
  return row;
}

function showPartitions(list) {
  byId('partitions').hidden = !list.length;
  const names = new Set(list.map(partitionName));
  for (const name of partitionRows.keys()) if (!names.has(name)) partitionRows.delete(name);
  arrange(byId('partition-rows'), list.map((one) => {
    const name = partitionName(one);
    if (!partitionRows.has(name)) partitionRows.set(name, makePartition());
    const row = partitionRows.get(name);
    row.one = one;
    setText(row.name, name);
    row.state.hidden = !one.paused;
    setText(row.from, one.unfinished_from === undefined ? '–' : number(one.unfinished_from));
    setText(row.age, one.head_age_seconds ? span(one.head_age_seconds * 1000) : '–');
    setText(row.lag, one.lag === undefined ? '–' : number(one.lag));
    const word = one.paused ? 'Resume' : 'Pause';
    setText(row.pause, word);
    setAttribute(row.pause, 'aria-label', `${word} partition ${name}`);
    setAttribute(row.skip, 'aria-label', `Skip a record of partition ${name}…`);
    return row.node;
  }));
}

async function changePartition(one, action, more = '') {
  try {
    const answer = await post(partitionPath(one, action) + more);
    toast(`${answer.pipeline}: ${answer.text}`);
  } catch (error) {
    failed(error);
  }
  refresh();
}

async function skipRecord(one) {
  const name = partitionName(one);
  const choice = await ask({
    title: `Skip a record of ${name}`, text: 'It ends without its work: with a dead letter, or dropped. A running request of it is closed. The other records go on.',
    yes: 'Skip this record', then: true, requeue: false, danger: true,
    number: one.unfinished_from ?? 0, numberLabel: 'Offset', least: 0, most: Number.MAX_SAFE_INTEGER,
  });
  if (choice) await changePartition(one, 'skip', `?${query({ offset: choice.number, then: choice.then })}`);
}
