"use strict";
// All text of jobs is set as text, never as HTML. Links lead to the console or to Airflow only.
const CONSOLE = "https://console.cloud.google.com/";
const KINDS = [["running", "Running"], ["queued", "Queued"], ["good", "Succeeded"], ["bad", "Ended otherwise"]];
const SECOND = 1000;
const find = (id) => document.getElementById(id);
let data = null, kind = "", timer = 0;

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// Airflow shows this page in a frame that may open no window, so its own document follows the link.
function follow(event) {
  const outer = window.parent;
  if (outer === window || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const link = outer.document.createElement("a");
  link.href = event.currentTarget.href;
  link.target = event.currentTarget.target;
  link.rel = "noopener noreferrer";
  link.click();
}

function anchor(text, url, target) {
  const made = make("a", "", text);
  made.href = url;
  made.target = target;
  made.rel = "noopener noreferrer";
  made.addEventListener("click", follow);
  return made;
}

function stateCell(job) {
  const cell = make("td"), line = make("div", "state");
  line.append(make("span", "dot " + job.kind), job.state.toLowerCase().replaceAll("_", " "));
  cell.append(line);
  if (job.age) cell.append(make("div", "soft small under", job.age));
  if (job.since) cell.title = new Date(job.since).toLocaleString();
  return cell;
}

function taskCell(job) {
  const cell = make("td"), root = location.pathname.replace(/gemini_batch\/[^/]*$/, "");
  cell.append(anchor(job.dag_id, root + "dags/" + encodeURIComponent(job.dag_id), "_self"));
  cell.append(make("div", "soft small", job.task_id));
  if (job.error) {
    const why = make("div", "why", job.error);
    why.title = job.error;
    cell.append(why);
  }
  return cell;
}

function rowsCell(job) {
  const cell = make("td");
  if (job.progress !== null) {
    const track = make("div", "track"), done = make("div", "done " + job.kind), percent = Math.floor(job.progress * 100);
    done.style.width = percent + "%";
    track.append(done);
    track.setAttribute("role", "progressbar");
    track.setAttribute("aria-valuenow", String(percent));
    track.setAttribute("aria-label", "Rows done");
    cell.append(track);
  }
  cell.append(make("div", "small", job.rows));
  return cell;
}

function linksCell(job) {
  const cell = make("td", "end");
  for (const [text, url] of [["Job", job.job_url], ["Output", job.output_url]]) {
    if (url.startsWith(CONSOLE)) cell.append(anchor(text, url, "_blank"));
  }
  return cell;
}

function tableRow(job) {
  const row = make("tr"), model = make("td", "", job.model), cost = make("td", "end");
  if (job.location) model.append(make("div", "soft small", job.location));
  const [amount, isEstimate] = job.cost.split(", ");
  cost.append(make("div", "", amount), make("div", "soft small", isEstimate));
  row.append(stateCell(job), taskCell(job), model, rowsCell(job), cost, linksCell(job));
  row.title = job.job_name;
  return row;
}

function chosen() {
  const dag = find("dags").value, words = find("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  return data.jobs.filter((job) => {
    const text = [job.dag_id, job.task_id, job.model, job.job_id, job.location, job.state, job.title].join(" ").toLowerCase();
    return (!kind || job.kind === kind) && (!dag || job.dag_id === dag) && words.every((word) => text.includes(word));
  });
}

function showKinds() {
  const counts = {};
  for (const job of data.jobs) counts[job.kind] = (counts[job.kind] || 0) + 1;
  const buttons = KINDS.map(([name, text]) => {
    const button = make("button");
    button.type = "button";
    button.append(make("span", "dot " + name), text, make("span", "count", (counts[name] || 0).toLocaleString("en")));
    button.setAttribute("aria-pressed", String(kind === name));
    button.addEventListener("click", () => { kind = kind === name ? "" : name; show(); });
    return button;
  });
  find("kinds").replaceChildren(...buttons);
}

function showDags() {
  const select = find("dags"), before = select.value;
  const ids = [...new Set(data.jobs.map((job) => job.dag_id))].sort();
  const options = ["", ...ids].map((id) => new Option(id || "All DAGs", id));
  select.replaceChildren(...options);
  select.value = ids.includes(before) ? before : "";
}

function showRows() {
  const jobs = chosen(), rows = document.createDocumentFragment();
  for (const job of jobs) rows.append(tableRow(job));
  find("rows").replaceChildren(rows);
  find("jobs").hidden = jobs.length === 0;
  const nothing = find("nothing");
  nothing.hidden = jobs.length > 0;
  if (jobs.length > 0) return;
  if (data.jobs.length > 0) {
    nothing.replaceChildren(make("strong", "", "No job matches the filters"));
  } else {
    nothing.replaceChildren(
      make("strong", "", "No batch jobs in the last 7 days"),
      "A job appears here when a task of a DAG that you may read has submitted it.",
    );
  }
}

function showProblems(texts) {
  if (!data) find("nothing").hidden = texts.length > 0;
  find("problems").replaceChildren(...texts.map((text) => make("p", "problem", text)));
}

function showTime() {
  if (!data || !data.at) return;
  const age = Math.max(0, Math.round((Date.now() - new Date(data.at)) / SECOND));
  const text = age < 5 ? "Updated just now" : age < 120 ? `Updated ${age} s ago` : `Updated ${Math.round(age / 60)} min ago`;
  if (find("updated").textContent !== text) find("updated").textContent = text;
}

function show() {
  if (!data.at) return;
  showKinds();
  showDags();
  showRows();
  showTime();
  find("filters").hidden = data.jobs.length === 0;
}

function again(seconds) {
  clearTimeout(timer);
  timer = setTimeout(load, seconds * SECOND);
}

async function load() {
  // A page that nobody sees asks for nothing; it is loaded when it is seen again.
  if (document.hidden) return;
  let answer;
  try {
    answer = await fetch("jobs", {headers: {Accept: "application/json"}});
  } catch {
    showProblems(["Airflow does not respond. Trying again every 10 seconds."]);
    return again(10);
  }
  if (answer.status === 401 || answer.status === 403) {
    return showProblems(["You are logged out of Airflow. Log in, then reload this page."]);
  }
  if (!answer.ok) {
    showProblems([`Airflow answered with an error (${answer.status}). Trying again every 10 seconds.`]);
    return again(10);
  }
  data = await answer.json();
  const problems = data.problems.map((text) => "Some jobs cannot be listed. " + text);
  if (data.is_cut) problems.push("There are more jobs than this page shows. Use gemini-batch jobs in a terminal.");
  showProblems(problems);
  show();
  again(!data.at ? 1 : data.is_looking ? 2 : data.interval);
}

function useTheme() {
  // Airflow keeps the choice of the user here; without one, the system decides.
  let theme = null;
  try { theme = localStorage.getItem("theme"); } catch { /* storage may be off */ }
  const prefersDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const isDark = theme === "dark" || (theme !== "light" && prefersDark);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
}

useTheme();
addEventListener("storage", useTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", useTheme);
document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
find("dags").addEventListener("change", () => { if (data) showRows(); });
find("text").addEventListener("input", () => { if (data) showRows(); });
setInterval(showTime, SECOND);
load();
