"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const STAGES = ["queue", "tokenize", "encode", "search", "gather", "prepare", "head", "teacher"];
  const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
  const TRIES = 3;
  let model = null, steps = [], running = null, timer = 0;

  /* Texts of items only ever become text nodes. */
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const count = (number) => number.toLocaleString("en");
  const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
  const ms = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)) + " ms";
  const short = (value) => (value === null || value === undefined ? "–" : value.toFixed(3).replace("-", "−"));

  class Failure extends Error {
    constructor(message, { expected, fix, status, retry } = {}) {
      super(message);
      Object.assign(this, { expected, fix, status, retry });
    }
  }

  async function call(path, body, signal) {
    const headers = { Accept: "application/json" };
    const key = sessionStorage.getItem("key");
    if (key) headers.Authorization = "Bearer " + key;
    if (body) headers["Content-Type"] = "application/json";
    let answer, content;
    try {
      answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
      content = await answer.json();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (answer) throw new Failure(`The server's answer (${answer.status}) is not readable`, { status: answer.status });
      throw new Failure("The server does not answer", { fix: "Is it running? Start it with: pairstill serve", retry: 0 });
    }
    if (answer.ok) return content;
    const said = content.error || {};
    const busy = answer.status === 429 || answer.status === 503;
    const wait = Number(answer.headers.get("Retry-After"));
    throw new Failure(said.message || `The server answered ${answer.status}`, {
      expected: said.expected, fix: said.fix, status: answer.status, retry: busy ? Math.min(Math.max(wait || 1, 1), 60) : undefined,
    });
  }

  function hideError() {
    clearInterval(timer);
    if ($("trouble").contains(document.activeElement)) $($("form").hidden ? "status" : "query").focus();
    $("trouble").hidden = true;
    $("error").replaceChildren();
  }

  /* Says what is wrong; where trying again can help, offers it, and does it by itself a few times while the server is busy. */
  function showError(error, again, tries) {
    const first = make("p");
    const message = error.message.replace(/[.]?$/, ".");
    first.append(make("strong", "", error.status === 429 || error.status === 503 ? "The server is busy: " : ""), message[0].toUpperCase() + message.slice(1));
    const said = [first];
    if (error.expected) said.push(make("p", "", `Expected: ${error.expected}.`));
    if (error.fix) said.push(make("p", "", error.fix + "."));
    const repeats = error.retry > 0 && tries < TRIES;
    if (repeats) said.push(make("p", "", `It is asked again by itself in ${plural(error.retry, "second")}.`));
    $("trouble").hidden = false;
    $("error").replaceChildren(...said);
    $("status").textContent = $("countdown").textContent = "";
    $("again").hidden = error.retry === undefined;
    if (error.status === 401) {
      $("form").hidden = $("key-part").hidden = false;
      $("key").focus();
    } else if (error.retry !== undefined) {
      $("again").onclick = () => again(0);
      if (repeats) {
        /* Outside the alert, which would be read aloud every second. */
        let left = error.retry;
        const say = () => { $("countdown").textContent = `${left} s`; };
        say();
        timer = setInterval(() => {
          left -= 1;
          if (left <= 0) { clearInterval(timer); again(tries + 1); } else say();
        }, 1000);
      }
    }
  }

  function showTime(timing, roundTrip) {
    const stages = timing ? STAGES.filter((name) => timing[name] > 0) : [];
    const known = stages.reduce((sum, name) => sum + timing[name], 0);
    const parts = stages.map((name) => [name, timing[name], STAGES.indexOf(name)]);
    if (timing && timing.total - known > 0.005) parts.push(["other", timing.total - known, STAGES.length]);
    $("bar").replaceChildren(...parts.map(([, value, place]) => {
      const part = make("i", "s" + place);
      part.style.flexGrow = 1000 * value / timing.total;
      return part;
    }));
    $("stages").replaceChildren(...parts.map(([name, value, place]) => {
      const entry = make("div", "s" + place);
      entry.append(make("dt", "", name), make("dd", "", ms(value)));
      return entry;
    }));
    $("time").hidden = !parts.length;
    return timing ? `${ms(timing.total)} on the server, ${ms(roundTrip)} round trip` : `${ms(roundTrip)} round trip`;
  }

  function meter(value, className) {
    const track = make("div", "meter " + className), fill = make("i");
    track.setAttribute("aria-hidden", "true");
    fill.style.width = `${100 * Math.min(Math.max(value, 0), 1)}%`;
    track.append(fill);
    return track;
  }

  function number(list, name, value, className) {
    list.append(make("dt", className, name), make("dd", "", value));
  }

  function show(results) {
    const teacher = results.filter((one) => typeof one.teacher_score === "number").sort((a, b) => b.teacher_score - a.teacher_score);
    $("results").replaceChildren(...results.map((one, place) => {
      const entry = make("li"), what = make("div"), numbers = make("dl", "numbers");
      const text = make("p", "text folded", one.text === null ? "(no text is stored)" : one.text || "(an empty text)");
      if (!one.text) text.classList.add("quiet");
      text.dir = "auto";
      what.append(text);
      if (one.id !== null && one.id !== undefined) what.append(make("p", "name", one.id));
      number(numbers, "score", short(one.score), "whole");
      if (typeof one.score === "number") numbers.append(meter(one.score, ""));
      if (typeof one.teacher_score === "number") {
        number(numbers, `teacher, its no. ${teacher.indexOf(one) + 1}`, short(one.teacher_score), "whole");
        numbers.append(meter(one.teacher_score, "teacher"));
      }
      number(numbers, "logit", short(one.logit));
      if (one.similarity !== undefined) number(numbers, "similarity", short(one.similarity));
      entry.append(make("span", "rank", String(place + 1)), what, numbers);
      return entry;
    }));
    for (const text of $("results").querySelectorAll(".folded")) {
      if (text.scrollHeight <= text.clientHeight + 2) { text.classList.remove("folded"); continue; }
      const button = make("button", "more", "Show all of it");
      button.type = "button";
      button.setAttribute("aria-expanded", "false");
      button.addEventListener("click", () => {
        const folded = text.classList.toggle("folded");
        button.setAttribute("aria-expanded", String(!folded));
        button.textContent = folded ? "Show all of it" : "Show less";
      });
      text.after(button);
    }
  }

  async function ask(tries = 0) {
    const query = $("query").value;
    const documents = $("documents").value.split("\n").map((one) => one.trim()).filter(Boolean);
    if (!model || !query.trim() || (!model.search && !documents.length)) return;
    if (running) running.abort();
    hideError();
    const own = running = new AbortController();
    const limit = Number($("top").value) || 10;
    const began = performance.now();
    document.body.classList.add("waiting");
    $("status").textContent = model.search ? "Searching …" : "Ranking …";
    try {
      const answer = model.search
        ? await call("v1/search", {
            query, top_k: limit, candidates: Math.max(steps[$("candidates").value], limit), return_texts: true, timing: true,
            teacher: Boolean(model.teacher) && $("teacher").checked, exact: $("exact").checked,
          }, own.signal)
        : await call("v1/rank", { query, documents, return_texts: true, timing: true }, own.signal);
      const time = showTime(answer.timing_ms, performance.now() - began);
      show(answer.results);
      const found = answer.results.length;
      $("status").textContent = !found ? "Nothing was found: no items are stored."
        : model.search ? `${plural(found, "result")} of ${plural(answer.candidates, "candidate")}, ${time}` : `${plural(found, "document")}, ${time}`;
      if (model.search) history.replaceState(null, "", "?q=" + encodeURIComponent(query));
    } catch (error) {
      if (error.name === "AbortError") return;
      $("results").replaceChildren();
      $("time").hidden = true;
      showError(error, ask, tries);
    } finally {
      if (running === own) {
        running = null;
        document.body.classList.remove("waiting");
      }
    }
  }

  function showCandidates() {
    const said = count(steps[$("candidates").value]);
    $("candidates-said").textContent = said;
    $("candidates").setAttribute("aria-valuetext", said);
  }

  function prepare() {
    const search = model.search;
    document.title = `${model.model.split("@")[0]} · Pairstill`;
    $("title").textContent = model.model.split("@")[0];
    const said = [search ? `${plural(search.items, "item")}` : "No store is served: give documents"];
    if (search && model.search_model && model.search_model !== model.name) said.push(`found by ${model.search_model}, scored by ${model.name}`);
    else said.push(model.name);
    said.push(model.precision);
    if (search && model.recall !== null) said.push(`recall of the index ${model.recall.toFixed(3)}`);
    if (model.teacher) said.push(`teacher ${model.teacher}`);
    $("served").textContent = said.join(" · ");
    $("form").hidden = false;
    $("key-part").hidden = true;
    $("documents-part").hidden = Boolean(search);
    $("options").hidden = !search;
    $("teacher-part").hidden = !model.teacher;
    $("exact-part").hidden = !search || model.recall === null;
    $("go").textContent = search ? "Search" : "Rank";
    if (search) {
      const most = Math.max(1, model.limits.candidates || 1000);
      steps = STEPS.filter((one) => one < most).concat(most);
      $("candidates").max = steps.length - 1;
      $("candidates").value = Math.max(steps.findIndex((one) => one >= Math.min(100, most)), 0);
      $("top").max = Math.min(100, most);
      showCandidates();
    }
    $("status").textContent = search ? "Type a query and press Enter." : "Give a query and documents, then rank them.";
    $("query").focus();
    const asked = new URLSearchParams(location.search).get("q");
    if (search && asked && !$("query").value) {
      $("query").value = asked;
      ask();
    }
  }

  async function start(tries = 0) {
    hideError();
    try {
      model = await call("v1/model");
      if (!model.search && (model.fields !== 2 || model.outputs !== 1)) {
        throw new Failure(`The student takes ${plural(model.fields, "field")} and gives ${plural(model.outputs, "output")}`, {
          fix: "This page ranks documents for a query; ask /v1/score instead",
        });
      }
      prepare();
    } catch (error) {
      showError(error, start, tries);
    }
  }

  $("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  $("candidates").addEventListener("input", showCandidates);
  for (const id of ["candidates", "top", "teacher", "exact"]) $(id).addEventListener("change", () => ask());
  $("documents").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
  });
  const useKey = () => {
    sessionStorage.setItem("key", $("key").value);
    start();
  };
  $("use-key").addEventListener("click", useKey);
  $("key").addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); useKey(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.target.matches("textarea, [type=search], [type=password], [type=number]")) {
      event.preventDefault();
      $("query").select();
      $("query").focus();
    }
  });
  start();
})();
