// The bridge: requests, the token, and the stream of changes.

const TOKEN = 'longhaul-token';
const PATIENCE = 10000;
// An action on many items takes longer.
const ACTION_PATIENCE = 65000;

class Refusal extends Error {
  constructor(status, body) {
    super(body.error || `the bridge answers ${status}`);
    this.status = status;
    this.help = body.help || '';
  }
  get text() { return this.help ? `${this.message}. ${this.help}` : this.message; }
}

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return { accept: 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) };
}

// Asks the bridge. A request that needs a token asks the person for it and is sent again.
async function api(path, method = 'GET') {
  const answer = await fetch(`api/v1/${path}`, { method, headers: headers(), cache: 'no-store', signal: AbortSignal.timeout(method === 'GET' ? PATIENCE : ACTION_PATIENCE) });
  const text = await answer.text();
  let body = {};
  try { body = JSON.parse(text); } catch { body = { error: text.trim() }; }
  if (answer.ok) {
    const date = Date.parse(answer.headers.get('date'));
    // The header has whole seconds.
    if (date && Math.abs(date - now()) > 1500) skew = date + 500 - Date.now();
    return body;
  }
  const refusal = new Refusal(answer.status, body);
  if (answer.status === 401 && await askToken(method === 'GET' ? 'to show anything' : 'for changes')) return api(path, method);
  throw refusal;
}

const get = (path) => api(path);
const post = (path) => api(path, 'POST');
const query = (pairs) => new URLSearchParams(Object.entries(pairs).filter(([, value]) => value)).toString();

let asking = null;
// Reads that a person has refused a token for are not asked for again, until the button is used.
let declined = false;

// Resolves to true when there is a new token. All requests that wait share one dialog.
function askToken(why, wanted = false) {
  if (declined && why !== 'for changes' && !wanted) return Promise.resolve(false);
  asking ??= new Promise((resolve) => {
    const had = sessionStorage.getItem(TOKEN);
    setText(byId('token-text'), had && !wanted
      ? `The bridge refused this token. It needs another one ${why}.`
      : `The bridge needs the token of admin.token ${why}.${why === 'for changes' ? '' : ' admin.read_token is enough to look.'}`);
    const input = byId('token-input');
    input.value = '';
    const dialog = byId('token-dialog');
    let entered = false;
    byId('token-form').onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, input.value);
      entered = true;
      dialog.close();
    };
    dialog.addEventListener('close', () => {
      asking = null;
      input.value = '';
      declined = !entered;
      showToken();
      resolve(entered);
    }, { once: true });
    show(dialog);
  });
  return asking;
}

function showToken() {
  setText(byId('token-button'), sessionStorage.getItem(TOKEN) ? 'Forget token' : 'Enter token');
}

byId('token-button').addEventListener('click', async () => {
  if (sessionStorage.getItem(TOKEN)) {
    sessionStorage.removeItem(TOKEN);
    declined = false;
    showToken();
    toast('The token is forgotten');
  } else if (await askToken('', true)) {
    refresh();
  }
});

// The state of the connection: connecting, live (stream), polling (no stream), lost.
const link = { live: false, lostSince: null, seen: null, stream: null };

function showLink() {
  const state = link.lostSince ? 'lost' : link.live ? 'live' : link.seen ? 'polling' : 'connecting';
  byId('connection').dataset.state = state;
  const texts = { live: 'Live', polling: 'Every 5 s', connecting: 'Connecting', lost: 'Connection lost' };
  setText(byId('connection-text'), texts[state]);
  document.body.classList.toggle('stale', state === 'lost');
  const lost = byId('lost');
  if (link.lostSince && lost.hidden) {
    const since = fullClocks.format(new Date(link.lostSince));
    setText(lost, `Connection lost since ${since}. This is the state at that time. The page tries again by itself.`);
  }
  lost.hidden = !link.lostSince;
}

function wasSeen() {
  link.seen = Date.now();
  link.lostSince = null;
  showLink();
}

function wasLost() {
  link.lostSince ??= link.seen ?? Date.now();
  showLink();
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Reads the stream of changes for ever. It is read with fetch, since EventSource cannot send a token.
async function listen(changed, started) {
  for (let wait = 1000; ; wait = Math.min(wait * 2, 15000)) {
    link.stream = new AbortController();
    try {
      const answer = await fetch('api/v1/events', { headers: { ...headers(), accept: 'text/event-stream' }, cache: 'no-store', signal: link.stream.signal });
      if (!answer.ok || !answer.body) throw new Refusal(answer.status, {});
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      link.live = true;
      wait = 500;
      wasSeen();
      started();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const events = (rest + value.replaceAll('\r', '')).split('\n\n');
        rest = events.pop();
        for (const event of events) {
          const data = event.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart()).join('\n');
          if (data) changed(JSON.parse(data));
        }
      }
    } catch { /* The next request tells whether the bridge is there. */ }
    link.live = false;
    showLink();
    refresh();
    await sleep(wait);
  }
}
