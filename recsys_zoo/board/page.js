"use strict";
// Sorts and filters each section's table by what stands in its data attributes. The state of all sections is
// kept in the address as #SECTION.NAME=VALUE&..., so that a link shows what its sender saw.

const sections = [...document.querySelectorAll("section.board")].map((section) => {
  const form = section.querySelector("form.filters");
  const body = section.querySelector("table.ranks").tBodies[0];
  const headers = [...section.querySelectorAll("th[data-name]")];
  const byRank = [...body.rows]; // sorting starts from this order, so equal values stay in it
  const switches = section.querySelector(".costs");
  let sort = ""; // name of a column, "-name" for descending, "" for the order of the ranks

  const all = (name) => [...form.elements].filter((field) => field.name === name);
  const order = (name) => (sort === name ? "ascending" : sort === `-${name}` ? "descending" : "none");

  function sortRows() {
    const at = headers.findIndex((header) => order(header.dataset.name) !== "none");
    headers.forEach((header) => header.setAttribute("aria-sort", order(header.dataset.name)));
    if (at < 0) return body.append(...byRank);
    const sign = sort.startsWith("-") ? -1 : 1;
    const value = (row) => row.cells[at].dataset.sort;
    const compare = headers[at].dataset.kind === "number"
      ? (a, b) => Number(a) - Number(b)
      : (a, b) => a.localeCompare(b, "en");
    const rows = byRank.filter((row) => value(row) !== "");
    rows.sort((one, other) => sign * compare(value(one), value(other)));
    body.append(...rows, ...byRank.filter((row) => value(row) === "")); // empty values last in any order
  }

  function filterRows() {
    const text = form.elements.model.value.trim().toLowerCase();
    const least = Number(form.elements.seeds?.value || 1);
    const origins = all("origin").filter((box) => box.checked).map((box) => box.value);
    const models = byRank.filter((row) => row.dataset.entry !== undefined);
    const shown = new Set(models.filter((row) =>
      row.dataset.model.toLowerCase().includes(text) && Number(row.dataset.seeds) >= least &&
      (!all("origin").length || row.dataset.origins.split(" ").some((origin) => origins.includes(origin)))
    ).map((row) => row.dataset.entry));
    for (const part of section.querySelectorAll("[data-entry]")) {
      part.toggleAttribute("hidden", !shown.has(part.dataset.entry)); // SVG has no .hidden
    }
    section.classList.toggle("no-references", Boolean(form.elements.references?.checked));
    form.elements.count.value = `${shown.size} of ${models.length} models`;
  }

  function showCost() {
    const chosen = all("cost").find((field) => field.checked)?.value;
    for (const figure of section.querySelectorAll("figure[data-cost]")) {
      figure.hidden = figure.dataset.cost !== chosen;
      figure.firstElementChild.scrollLeft = 9999; // on a phone: few of the best are the cheapest
    }
  }

  function show() {
    sortRows();
    filterRows();
  }

  function write(state) {
    const put = (name, value) => value && state.set(`${section.id}.${name}`, value);
    put("sort", sort);
    for (const field of form.elements) {
      const entered = ["search", "number"].includes(field.type) && field.value !== field.defaultValue;
      const chosen = field.type === "radio" && field.checked && !field.defaultChecked;
      if (entered || chosen) put(field.name, field.value);
    }
    if (form.elements.references?.checked) put("references", "hidden");
    const boxes = all("origin");
    if (!boxes.every((box) => box.checked)) {
      put("origin", boxes.filter((box) => box.checked).map((box) => box.value).join(" ") || "none");
    }
  }

  function read(state) {
    const get = (name) => state.get(`${section.id}.${name}`) ?? "";
    sort = headers.some((header) => header.dataset.name === get("sort").replace(/^-/, "")) ? get("sort") : "";
    form.elements.model.value = get("model");
    if (form.elements.seeds) form.elements.seeds.value = get("seeds") || form.elements.seeds.defaultValue;
    if (form.elements.references) form.elements.references.checked = get("references") === "hidden";
    const origins = get("origin").split(" ");
    all("origin").forEach((box) => { box.checked = !get("origin") || origins.includes(box.value); });
    const costs = all("cost");
    const wanted = costs.find((field) => field.value === get("cost"));
    const cost = wanted ?? costs.find((field) => field.defaultChecked);
    if (cost) cost.checked = true;
    show();
    showCost();
  }

  function changed() {
    show();
    writeAddress();
  }

  for (const header of headers) {
    const { name, first } = header.dataset;
    const [once, twice] = first === "descending" ? [`-${name}`, name] : [name, `-${name}`];
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => {
      sort = sort === once ? twice : sort === twice ? "" : once;
      changed();
    });
    header.append(button);
  }
  form.addEventListener("input", changed);
  switches?.addEventListener("input", () => {
    showCost();
    writeAddress();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.all.addEventListener("click", () => {
    read(new URLSearchParams());
    writeAddress();
  });
  form.hidden = false;
  if (switches) switches.hidden = false;
  return { read, write };
});

function writeAddress() {
  const state = new URLSearchParams();
  sections.forEach((section) => section.write(state));
  history.replaceState(null, "", location.href.split("#")[0] + (String(state) && `#${state}`));
}

function readAddress() {
  const text = location.hash.slice(1);
  if (text && !text.includes("=")) return; // a link to a section, not a state
  const state = new URLSearchParams(text);
  sections.forEach((section) => section.read(state));
}

document.documentElement.classList.add("scripted");
sections.forEach((section) => section.read(new URLSearchParams()));
readAddress();
addEventListener("hashchange", readAddress);
