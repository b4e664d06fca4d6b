'use strict';
// Everything that comes from outside is set as text, never as HTML. The policy of the page forbids
// the other way.

const byId = (id) => document.getElementById(id);

// An element. `text` is its text, `onclick` and the like are listeners, the rest are attributes.
function node(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'text') made.textContent = value;
    else if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// Makes `wanted` the children of `parent`, and moves as few of them as possible, so that the focus
// stays.
function arrange(parent, wanted) {
  const focused = document.activeElement;
  const kept = new Set(wanted);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of wanted) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

const numbers = new Intl.NumberFormat('en');
const number = (value) => numbers.format(value);
const decimal = (value) => (value >= 10 ? number(Math.round(value)) : String(Math.round(value * 10) / 10));
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? '' : 's'}`;

// The clock of the bridge less ours, in milliseconds. Ages would be wrong without it.
let skew = 0;
const now = () => Date.now() + skew;

function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes < 10 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : span(value * 1000));
const age = (time) => span(now() - Date.parse(time));

function until(time) {
  const left = Date.parse(time) - now();
  return left > 0 ? `in ${span(left)}` : 'now';
}

const clocks = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const fullClocks = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const days = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

// A time of day, with the date if it is not today.
function clock(time, format = clocks) {
  const date = new Date(time);
  const text = format.format(date);
  return date.toDateString() === new Date(now()).toDateString() ? text : `${days.format(date)} ${text}`;
}

const STATES = ['waiting', 'asking', 'running', 'retrying', 'writing', 'held', 'blocked', 'done', 'dead-lettered', 'dropped'];
const STATE_KINDS = { running: 'info', retrying: 'warn', writing: 'info', held: 'bad', done: 'good', 'dead-lettered': 'bad', dropped: 'warn' };
const FINISHED = new Set(['done', 'dead-lettered', 'dropped']);

const ACTIONS = {
  release: { label: 'Release', done: 'released', effect: 'They are no longer held, and start again with all their attempts.' },
  retry: { label: 'Retry now', done: 'sent on at once', effect: 'Their next attempt or write starts without a further wait.' },
  hold: { label: 'Hold', done: 'held', effect: 'They stay with the broker until a person decides.' },
  cancel: { label: 'Cancel…', done: 'cancelled', effect: 'Their open requests are closed at once.', then: true, danger: true },
  'dead-letter': { label: 'Dead-letter…', done: 'dead-lettered', effect: 'Their dead letters are written, then they leave the queue.', danger: true },
  drop: { label: 'Drop…', done: 'dropped', effect: 'They leave the queue without success, and nothing is kept.', danger: true },
};

// Shows a short message, which screen readers announce.
function toast(text, kind) {
  const line = node('p', { text, 'data-kind': kind });
  byId('toast').append(line);
  setTimeout(() => line.remove(), 9000);
}
