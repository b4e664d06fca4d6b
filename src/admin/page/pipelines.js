// The pipelines: a card for each, and everything about the chosen one.

const pipelines = new Map();
const cards = new Map();
let chosen = null;

const PIPELINE_KINDS = { running: ['good', 'running'], paused: ['warn', 'paused'], draining: ['warn', 'draining'], drained: ['info', 'drained'], stuck: ['bad', 'stuck'] };

function badge(element, kinds, state) {
  const [kind, text] = kinds[state] ?? ['', state];
  setText(element, text);
  setAttribute(element, 'data-kind', kind || null);
}

const count = (pipeline, state) => pipeline.counts[state] ?? 0;

function bindingText({ max_in_flight: most, ceiling: set, working, binding }) {
  const texts = {
    backlog: 'not reached: no item waits',
    'max-in-flight': 'max_in_flight requests are open',
    ceiling: `set by a person; max_in_flight is ${number(most)}`,
    occupied: 'items that wait or are held occupy the other slots',
    'working-limit': `${number(working)} now: the service did not start all requests`,
    rate: 'the next item starts later, because of `rate`',
    'held-bytes': 'limits.held_bytes is reached',
    'held-max': 'limits.held_max items are held: nothing new starts',
    breaker: 'the breaker is open: nothing new starts',
    paused: 'paused: nothing new starts',
    draining: 'draining: nothing new starts',
  };
  const lowered = working < set && binding !== 'working-limit' ? `, lowered to ${number(working)} for now` : '';
  return (texts[binding] ?? binding) + lowered;
}

function forecastText({ forecast, backlog, limit }) {
  if (!forecast) return ['–', backlog === 0 && limit.running === 0 ? 'nothing is left to do' : 'no forecast yet'];
  if (forecast.never) return ['never', 'the backlog grows at this rate'];
  if (!forecast.clears_at) return ['–', 'no forecast yet'];
  const zone = new Date().getTimezoneOffset() ? ', your time' : ' UTC';
  const range = forecast.low && forecast.high ? `between ${clock(forecast.low)} and ${clock(forecast.high)}${zone}` : '';
  return [clock(forecast.clears_at), range];
}

function facts(pipeline) {
  const { limit, counts } = pipeline;
  const failed = count(pipeline, 'dead-lettered') + count(pipeline, 'dropped');
  const waiting = ['waiting', 'asking', 'retrying', 'writing', 'blocked'].reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  const [clears, range] = forecastText(pipeline);
  return [
    ['Clears at', clears, range],
    ['Backlog', pipeline.backlog === undefined ? '–' : number(pipeline.backlog), pipeline.backlog === undefined ? 'the broker has not told yet' : 'still with the broker'],
    ['In flight', number(limit.running), `of ${number(limit.ceiling)} requests`],
    ['Limit', number(limit.ceiling), bindingText(limit)],
    ['Waiting here', number(waiting), `${number(count(pipeline, 'held'))} held`],
    ['Done', number(count(pipeline, 'done')), failed ? `${number(count(pipeline, 'dead-lettered'))} dead-lettered, ${number(count(pipeline, 'dropped'))} dropped` : 'none failed for good'],
    ['Throughput', `${decimal(pipeline.done_per_minute)}/min`, pipeline.mean_seconds === undefined ? 'nothing done yet' : `${seconds(pipeline.mean_seconds)} per item`],
    ...(pipeline.paused_partitions?.length ? [['Paused partitions', number(pipeline.paused_partitions.length), pipeline.paused_partitions.slice(0, 3).join(', ') + (pipeline.paused_partitions.length > 3 ? ', …' : '')]] : []),
    ['Worker pods', number(pipeline.pods), podsText(pipeline.guard)],
  ];
}

function podsText(guard) {
  if (!guard) {
    return 'that report a running item';
  }
  return guard.problem ? `guard: ${guard.problem}` : `${number(guard.marked)} guarded, ${number(guard.stopping.length)} being stopped`;
}

function showFacts(pipeline) {
  const list = byId('facts');
  const wanted = facts(pipeline);
  if (list.childElementCount !== wanted.length) {
    list.replaceChildren(...wanted.map(([label]) => node('div', {}, node('dt', { text: label }), node('dd', { class: 'value' }), node('dd', { class: 'note' }))));
  }
  wanted.forEach(([, value, note], index) => {
    const [, valueNode, noteNode] = list.children[index].children;
    setText(valueNode, value);
    setText(noteNode, note);
  });
}

// Replaces the children only if the data changed, so that a screen reader does not read them again.
function rebuild(element, data, build) {
  const key = JSON.stringify(data ?? null);
  if (element.shown === key) return;
  element.shown = key;
  element.replaceChildren(...build());
}

const since = (time) => node('span', { class: 'small' }, 'Since ', node('time', { datetime: time, text: clock(time) }), ' (', node('span', { 'data-age': time, text: age(time) }), ').');

function showProblems(pipeline) {
  rebuild(byId('problems'), pipeline.problems, () => pipeline.problems.map((problem) => node('div', { class: 'problem' },
    node('p', {}, node('b', { text: problem.text })), node('p', { text: `What to do: ${problem.help}` }),
    node('p', {}, since(problem.since), node('span', { class: 'small', text: ` Kind: ${problem.kind}${problem.subject ? `, ${problem.subject}` : ''}.` })))));
  const breaker = pipeline.breaker;
  rebuild(byId('breaker'), breaker, () => (breaker ? [node('div', { class: 'problem warn' },
    node('p', {}, node('b', { text: `The breaker is open (${breaker.cause}).` }), ' Running requests continue; nothing new starts.'),
    node('p', { text: `Last answer: ${breaker.answer}` }),
    node('p', {}, since(breaker.since), breaker.probe
      ? node('span', { class: 'small' }, ' Next test ', node('span', { 'data-until': breaker.probe, text: until(breaker.probe) }), '.')
      : node('span', { class: 'small', text: ' One item tests the service now.' })),
    node('p', { text: `Resume: ${breaker.resume}` }))] : []));
}

function makeCard(name) {
  const card = { badge: node('span', { class: 'badge' }), sentence: node('span', {}), figures: node('span', { class: 'figures' }) };
  card.node = node('button', { type: 'button', class: 'card', onclick: () => choose(name) },
    node('span', { class: 'top' }, node('strong', { text: name }), card.badge), card.sentence, card.figures);
  return card;
}

function showOverview() {
  const overview = byId('overview');
  overview.hidden = pipelines.size < 2;
  const order = [...pipelines.values()].sort((a, b) => Number(b.state === 'stuck') - Number(a.state === 'stuck'));
  arrange(overview, order.map((pipeline) => {
    if (!cards.has(pipeline.name)) cards.set(pipeline.name, makeCard(pipeline.name));
    const card = cards.get(pipeline.name);
    badge(card.badge, PIPELINE_KINDS, pipeline.state);
    setText(card.sentence, pipeline.sentence);
    setText(card.figures, `${pipeline.backlog === undefined ? '–' : number(pipeline.backlog)} in backlog · ${number(pipeline.limit.running)} of ${number(pipeline.limit.ceiling)} in flight · ${number(count(pipeline, 'held'))} held`);
    setAttribute(card.node, 'data-kind', pipeline.state);
    setAttribute(card.node, 'aria-current', pipeline.name === chosen ? 'true' : null);
    return card.node;
  }));
  const stuck = order.filter((pipeline) => pipeline.state === 'stuck').length;
  document.title = stuck ? `(${stuck} stuck) longhaul` : 'longhaul';
}

function showPipeline() {
  const pipeline = pipelines.get(chosen);
  byId('pipeline').hidden = !pipeline;
  if (!pipeline) return;
  setText(byId('name'), pipeline.name);
  badge(byId('state'), PIPELINE_KINDS, pipeline.state);
  setText(byId('sentence'), pipeline.sentence);
  setText(byId('route'), `${pipeline.source} → ${pipeline.sink}`);
  showProblems(pipeline);
  showFacts(pipeline);
  showStates(pipeline);
}

// One drawing for many changes that arrive together.
let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    showOverview();
    showPipeline();
  }, 100);
}

function choose(name) {
  if (name !== chosen) {
    chosen = name;
    resetItems();
    showPartitions([]);
  }
  history.replaceState(null, '', `#pipeline=${encodeURIComponent(name)}`);
  showOverview();
  showPipeline();
  refreshOne();
  loadItems();
}

// The name in the address of the page.
function wantedName() {
  try {
    return decodeURIComponent(location.hash.replace('#pipeline=', ''));
  } catch {
    return '';
  }
}

function chooseFirst() {
  if (pipelines.has(chosen)) return;
  const wanted = wantedName();
  const stuck = [...pipelines.values()].find((pipeline) => pipeline.state === 'stuck');
  const first = pipelines.has(wanted) ? wanted : (stuck?.name ?? pipelines.keys().next().value);
  if (first !== undefined) choose(first);
}

function accept(pipeline) {
  pipelines.set(pipeline.name, { ...pipeline, history: [] });
}

// All pipelines. Its failure is how the page learns that the bridge is away.
let refreshing = null;
function refresh() {
  refreshing ??= (async () => {
    try {
      const list = (await get('pipelines')).pipelines;
      wasSeen();
      const names = new Set(list.map((pipeline) => pipeline.name));
      for (const name of pipelines.keys()) if (!names.has(name)) pipelines.delete(name);
      list.forEach(accept);
      const first = byId('first');
      first.hidden = list.length > 0;
      setText(first, 'There is no pipeline.');
      chooseFirst();
      draw();
      refreshOne();
    } catch (error) {
      if (error instanceof Refusal) {
        wasSeen();
        setText(byId('first'), error.text);
      } else {
        wasLost();
        link.stream?.abort();
      }
    } finally {
      refreshing = null;
    }
  })();
  return refreshing;
}

// The chosen pipeline with its history.
async function refreshOne() {
  const name = chosen;
  if (name === null) return;
  try {
    const pipeline = await get(`pipelines/${encodeURIComponent(name)}`);
    if (name !== chosen) return;
    showHistory({ ...pipeline, history: pipeline.history ?? [] });
    showPartitions(pipeline.partitions ?? []);
  } catch { /* The next refresh tells. */ }
}

byId('pipeline').addEventListener('click', async (event) => {
  const change = event.target.dataset?.change;
  if (!change) return;
  const name = chosen;
  let path = `pipelines/${encodeURIComponent(name)}/${change}`;
  if (change === 'limit') {
    const limit = pipelines.get(name).limit;
    const most = await ask({ title: `Limit of ${name}`, text: `At most ${number(limit.max_in_flight)}, the max_in_flight of the configuration. It holds until the process restarts.`, yes: 'Set limit', number: limit.ceiling, most: limit.max_in_flight });
    if (!most) return;
    path += `?max_in_flight=${most.number}`;
  }
  if (change === 'drain' && !await ask({ title: `Drain ${name}?`, text: 'Its running items finish, and nothing new starts until somebody resumes it.', yes: 'Drain' })) return;
  try {
    const answer = await post(path);
    toast(`${name}: ${answer.text}`);
  } catch (error) {
    failed(error);
  }
  refresh();
});

function failed(error) {
  toast(error instanceof Refusal ? error.text : 'the bridge does not answer', 'bad');
}
