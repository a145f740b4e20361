// Asks the models of this server over TF Serving's REST API and shows what they answer.
//
// What comes from a model, a file or a person enters the page as text alone (textContent, value):
// there is no innerHTML here. Addresses are relative, so that a proxy may put a path in front.

const MOST_BARS = 10; // classes shown at once
const MOST_NUMBERS = 8; // of an embedding
const MOST_LETTERS = 20000; // of JSON
// Inputs in the order in which a person reads them; others follow by their names.
const ORDER = ["adapter", "text", "text_pair", "question", "context", "prompt", "labels", "head_start",
  "head_end", "tail_start", "tail_end", "max_new_tokens", "temperature", "top_k", "top_p", "seed"];
// Of `generate`, which needs them all.
const DEFAULTS = { max_new_tokens: "32", temperature: "0.7", top_k: "50", top_p: "0.9", seed: "1" };
const WHOLE = /^DT_U?INT(8|16|32|64)$/;
const REAL = /^DT_(FLOAT|DOUBLE|HALF|BFLOAT16)$/;

const at = (id) => document.getElementById(id);
const state = { models: [], signatures: {}, kept: {}, asking: null, reading: 0 };

/** An element with attributes (`text` is its text) and children. */
function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// --- the server -----------------------------------------------------------------------------------

/** JSON as TF Serving writes it: NaN and Infinity, which JSON lacks, become strings. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    const words = /"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g;
    return JSON.parse(text.replace(words, (word) => (word[0] === '"' ? word : `"${word}"`)));
  }
}

/** The answer to a request as text; an Error with `status` where it is none. */
async function ask(path, options = {}) {
  let answer, text;
  try {
    answer = await fetch(path, options);
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(`The server at ${location.host} cannot be reached. Is it still running?`);
  }
  if (answer.ok) return text;
  const what = answer.status < 500 ? "The server refused this"
    : answer.status === 503 ? "The server is busy or stopping"
    : answer.status === 504 ? "The answer took too long" : "The server failed";
  let said = text.slice(0, 1000);
  try {
    said = JSON.parse(text).error ?? said;
  } catch { /* not from the server itself: it is shown as it came */ }
  throw Object.assign(new Error(`${what} (${answer.status}): ${said}`), { status: answer.status });
}

// --- what can be asked ----------------------------------------------------------------------------

const chosen = () => {
  const model = state.models[at("model").value];
  const version = model?.versions[at("version").value];
  const name = at("signature").value;
  return { model, version, name, signature: state.signatures[name] };
};

const pathOf = (model, version) =>
  `v1/models/${encodeURIComponent(model.name)}/versions/${version.version}`;

/** Fill a list of choices; it is shown where there is a choice. */
function offer(id, names, keys = Object.keys(names)) {
  at(id).replaceChildren(...names.map((text, i) => made("option", { value: keys[i], text })));
  at(`${id}-choice`).hidden = names.length < 2;
}

/** Read which models there are, and stay with the one that was chosen. */
async function readModels() {
  const before = chosen().model?.name;
  state.models = JSON.parse(await ask("page/models.json")).models;
  offer("model", state.models.map((model) => model.name));
  const place = state.models.findIndex((model) => model.name === before);
  if (place > 0) at("model").value = place;
  await chooseModel();
}

async function chooseModel() {
  const { model } = chosen();
  offer("version", model ? model.versions.map((one) => one.version) : []);
  await chooseVersion();
}

async function chooseVersion() {
  const { model, version } = chosen();
  const reading = ++state.reading;
  state.signatures = {};
  if (version) {
    const found = parsed(await ask(`${pathOf(model, version)}/metadata`));
    if (reading !== state.reading) return; // another one was chosen meanwhile
    const every = Object.entries(found.metadata.signature_def.signature_def);
    state.signatures = Object.fromEntries(every.filter(([name, signature]) =>
      signature.method_name === "tensorflow/serving/predict"
      && (!version.task || name === "serving_default" || name === "generate")));
  }
  const names = Object.keys(state.signatures).sort();
  offer("signature", names, names);
  if (names.includes("serving_default")) at("signature").value = "serving_default";
  chooseSignature();
}

function chooseSignature() {
  const { model, version, signature } = chosen();
  clear();
  at("send").disabled = !signature;
  at("about").textContent = version
    ? `${model.name}, version ${version.version}${version.task ? `, ${version.task}` : ""}` : "";
  showStatus(signature ? "" : model ? "No version of this model answers requests from a page."
    : "No model is served.");
  const inputs = Object.entries(signature?.inputs ?? {}).sort(([a], [b]) => rank(a) - rank(b)
    || (a < b ? -1 : 1));
  at("fields").replaceChildren(...inputs.map(([name, info], i) => field(name, info, i)));
}

const rank = (name) => (ORDER.indexOf(name) + 1 || ORDER.length + 1);

/** How an input is typed: a text, a list of texts, a number, true or false, or JSON. */
function kindOf({ dtype, tensor_shape: shape }) {
  const axes = shape.unknown_rank ? -1 : shape.dim.length;
  if (dtype === "DT_STRING" && (axes === 1 || axes === 2)) return axes === 1 ? "text" : "texts";
  if (axes === 1 && WHOLE.test(dtype)) return "whole";
  if (axes === 1 && REAL.test(dtype)) return "real";
  return axes === 1 && dtype === "DT_BOOL" ? "bool" : "json";
}

/** A label and the control that belongs to it. */
function field(name, info, i) {
  const { adapters } = chosen().version;
  const kind = name === "adapter" && adapters ? "adapter" : kindOf(info);
  const id = `field-${i}`;
  const hint = { texts: "One on each line.", json: "As JSON, the value of one row.",
    whole: /_(start|end)$/.test(name) ? "How many characters (code points) stand before this place." : "",
  }[kind] || "";
  const common = { id, name, "data-kind": kind, ...(hint && { "aria-describedby": `${id}-hint` }) };
  let control;
  if (kind === "adapter") {
    const options = ["", ...Object.keys(adapters)];
    control = made("select", common, ...options.map((value) =>
      made("option", { value, text: value || "(none: the base)" })));
  } else if (kind === "whole" || kind === "real") {
    const mode = kind === "whole" ? "numeric" : "decimal";
    control = made("input", { ...common, inputmode: mode, autocomplete: "off" });
  } else if (kind === "bool") {
    control = made("input", { ...common, type: "checkbox" });
  } else {
    const rows = name === "question" ? 2 : 5;
    control = made("textarea", { ...common, rows, dir: "auto", autocomplete: "off", spellcheck: "false" });
  }
  const value = state.kept[name] ?? DEFAULTS[name];
  if (value !== undefined && kind !== "bool" && kind !== "adapter") control.value = value;
  control.addEventListener("input", () => { state.kept[name] = control.value; });
  const label = made("label", { for: id, text: name });
  const below = hint ? [made("p", { id: `${id}-hint`, class: "hint", text: hint })] : [];
  return made("div", { class: "field" }, label, control, ...below);
}

/** The value of a control as the request carries it; an Error that says what was expected. */
function valueOf(control) {
  const { name, value, dataset: { kind } } = control;
  if (kind === "bool") return control.checked;
  if (kind === "texts") return value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (kind === "whole" || kind === "real") {
    const number = value.trim() === "" ? NaN : Number(value);
    if (kind === "whole" ? !Number.isSafeInteger(number) : !Number.isFinite(number)) {
      const what = kind === "whole" ? "a whole number" : "a number";
      control.setAttribute("aria-invalid", "true");
      control.focus();
      throw new Error(`${name} is ${what}. Received: ${value.trim() || "nothing"}.`);
    }
    return number;
  }
  if (kind !== "json") return value;
  try {
    return JSON.parse(value);
  } catch (error) {
    throw new Error(`${name} is a value in JSON, such as [1, 2]. Received: ${error.message}.`);
  }
}

/** The row that is asked. */
function rowOf() {
  const controls = [...at("fields").querySelectorAll("[name]")];
  controls.forEach((control) => control.removeAttribute("aria-invalid"));
  return Object.fromEntries(controls.map((control) => [control.name, valueOf(control)]));
}

// --- asking ---------------------------------------------------------------------------------------

async function send(event) {
  event?.preventDefault();
  const { model, version, name, signature } = chosen();
  if (!signature) return;
  clear(); // the last question counts
  const asking = state.asking = new AbortController();
  try {
    const row = rowOf();
    const path = `${pathOf(model, version)}:predict`;
    const named = name === "serving_default" ? {} : { signature_name: name };
    const body = JSON.stringify({ ...named, instances: [row] });
    showStatus("Asking …");
    at("answer").setAttribute("aria-busy", "true");
    const began = performance.now();
    const options = { method: "POST", body, signal: asking.signal,
      headers: { "Content-Type": "application/json" } };
    const text = await ask(path, options);
    const took = performance.now() - began;
    showWire(path, body, text);
    show(parsed(text).predictions[0], row, signature, version, text);
    showStatus(`Answered in ${took < 10 ? took.toFixed(1) : Math.round(took)} ms, `
      + "from this page to the server and back.");
  } catch (error) {
    if (error.name !== "AbortError") await fail(error);
  } finally {
    if (state.asking === asking) at("answer").removeAttribute("aria-busy");
  }
}

/** Forget the last answer, and the one that is under way. */
function clear() {
  state.asking?.abort();
  at("problem").hidden = true;
  at("wire").hidden = true;
  at("answer").replaceChildren();
  showStatus("");
}

function showStatus(text) {
  at("status").textContent = text;
  at("status").hidden = !text;
}

/** Say what went wrong. A version that has gone has the list of models read again. */
async function fail(error) {
  let said = error.message;
  if (error.status === 404) {
    try {
      await readModels();
      said += " What is served has changed: the list of models was read again.";
    } catch { /* the first problem is the one to tell */ }
  }
  showStatus("");
  at("problem").textContent = said;
  at("problem").hidden = false;
}

function showWire(path, body, text) {
  const short = (json) => (json.length > MOST_LETTERS ? `${json.slice(0, MOST_LETTERS)} …` : json);
  at("request-line").replaceChildren(made("code", { text: `POST /${path}` }));
  at("request-body").textContent = short(body);
  at("answer-body").textContent = short(text);
  at("wire").hidden = false;
}

// --- answers --------------------------------------------------------------------------------------

/** Show one row of the answer as its task is read. */
function show(row, asked, { outputs }, version, text) {
  const names = Object.keys(outputs);
  const found = names.length === 1 ? { [names[0]]: row } : row; // a single output has no name
  const view = VIEWS[version.task];
  const parts = view ? view(found, asked, version) : [made("pre", { text: text.slice(0, MOST_LETTERS) })];
  at("answer").replaceChildren(...parts);
}

const VIEWS = {
  "text-classification": classified,
  "relation-extraction": classified,
  "zero-shot-classification": classified,
  "token-classification": entities,
  "question-answering": answers,
  "text-similarity": embedded,
  "causal-lm": completed,
  "text-to-text": completed,
  "masked-lm": guessed,
};

const result = (text) => made("p", { class: "result", dir: "auto", text });
const faint = (text) => made("p", { class: "faint", text });
const percent = (share) => `${(100 * Number(share)).toFixed(1)}%`;
const decimal = (value) => String(Number(Number(value).toPrecision(5)));

function classified(found, asked, version) {
  if ("score" in found) return [result(decimal(found.score)), faint("The score.")];
  const labels = "labels" in found ? found.labels.filter(Boolean) : [found.label];
  const classes = classesOf(asked, version);
  // Of several adapters the row is filled up to the most classes of all.
  const shares = version.adapters || Array.isArray(asked.labels)
    ? found.probabilities.slice(0, classes.length) : found.probabilities;
  const rows = shares.map((share, i) => ({ share, name: classes[i] ?? `class ${i}` }));
  rows.sort((a, b) => Number(b.share) - Number(a.share));
  const bars = rows.map(({ name, share }) => bar(name, share, labels.includes(name)));
  const shown = made("ul", { class: "bars" }, ...bars.slice(0, MOST_BARS));
  const none = "labels" in found ? "No label reaches its threshold" : "No label";
  const parts = [result(labels.filter(Boolean).join(", ") || none), shown];
  if (bars.length > MOST_BARS) {
    const rest = bars.slice(MOST_BARS);
    parts.push(made("details", {}, made("summary", { text: `${rest.length} more classes` }),
      made("ul", { class: "bars" }, ...rest)));
  }
  return parts;
}

/** The names of the probabilities: asked with the row, the adapter's, or the model's. */
function classesOf(asked, version) {
  if (Array.isArray(asked.labels)) return asked.labels;
  if (!version.adapters || !asked.adapter) return version.classes;
  return version.adapters[asked.adapter] ?? [];
}

function bar(name, share, isChosen) {
  const fill = made("div", { class: "fill" });
  fill.style.width = `${Math.min(Math.max(100 * Number(share) || 0, 0), 100)}%`;
  return made("li", isChosen ? { class: "chosen" } : {},
    made("span", { class: "name", text: name }),
    made("span", { class: "share", text: percent(share) }),
    made("div", { class: "track", "aria-hidden": "true" }, fill));
}

/** A text with its spans marked. `start` and `end` count code points, JavaScript's indices do not:
 * an emoji is one of the first and two of the second. */
function marked(text, spans) {
  const points = Array.from(text);
  const shown = made("p", { class: "text", dir: "auto" });
  let done = 0;
  for (const { start, end, tag } of [...spans].sort((a, b) => a.start - b.start)) {
    if (start < done || end <= start || end > points.length) continue;
    shown.append(points.slice(done, start).join(""));
    const mark = made("mark", {}, made("span", { class: "span", text: points.slice(start, end).join("") }));
    if (tag) mark.append(made("span", { class: "tag", text: tag }));
    shown.append(mark);
    done = end;
  }
  shown.append(points.slice(done).join(""));
  return shown;
}

function entities(found, asked) {
  const spans = found.start
    .map((start, i) => ({ start, end: found.end[i], tag: `${found.label[i]} ${percent(found.score[i])}` }))
    .filter(({ start }) => start >= 0); // the rest is padding
  const count = spans.length === 1 ? "1 entity" : `${spans.length || "No"} entities`;
  return [made("p", { text: `${count} found.` }), marked(asked.text, spans)];
}

function answers(found, asked) {
  const every = found.answer
    .map((answer, i) => ({ answer, start: found.start[i], end: found.end[i], score: found.score[i] }))
    .filter(({ start, score }) => start >= 0 || Number(score) > 0); // the rest is padding
  const named = ({ answer, start }) => (start < 0 ? "No answer in the context" : answer);
  if (!every.length) return [result("No answer in the context"), marked(asked.context, [])];
  const [best, ...rest] = every;
  const parts = [result(named(best)), faint(`Score ${percent(best.score)}`),
    made("h3", { text: "In the context" }), marked(asked.context, best.start < 0 ? [] : [best])];
  if (rest.length) {
    parts.push(made("h3", { text: "Other answers" }), made("ul", { class: "bars" },
      ...rest.map((one) => bar(named(one), one.score, false))));
  }
  return parts;
}

function embedded(found) {
  const numbers = found.embedding.map(Number);
  const norm = Math.hypot(...numbers);
  const first = numbers.slice(0, MOST_NUMBERS).map(decimal).join(", ");
  return [result(`${numbers.length} numbers, norm ${decimal(norm)}`),
    made("pre", { text: `[${first}${numbers.length > MOST_NUMBERS ? ", …" : ""}]` })];
}

function completed(found) {
  const tokens = found.tokens.filter((id) => id >= 0).length;
  return [made("div", { class: "completion", dir: "auto", text: found.completion || " " }),
    faint(`${tokens} ${tokens === 1 ? "token" : "tokens"}`)];
}

function guessed(found) {
  const every = found.token.map((token, i) => ({ token, score: found.score[i] }))
    .filter(({ token, score }) => token || Number(score) > 0); // the rest is padding
  if (!every.length) return [result("The text has no mask")];
  return [made("p", { text: "The likeliest token of each mask, in order:" }),
    made("ul", { class: "bars" }, ...every.map(({ token, score }) => bar(token, score, false)))];
}

// --- the start ------------------------------------------------------------------------------------

const guarded = (action) => () => action().catch(fail);
at("model").addEventListener("change", guarded(chooseModel));
at("version").addEventListener("change", guarded(chooseVersion));
at("signature").addEventListener("change", chooseSignature);
at("form").addEventListener("submit", send);
at("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(event);
});
readModels().catch(fail);
