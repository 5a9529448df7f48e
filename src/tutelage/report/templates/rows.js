// The row browser. Whatever comes from the data is set as textContent, never as markup.
(() => {
  const PER_PAGE = 10;
  const LONG = 600; // characters of a text that are shown at first
  const MOST_COLUMNS = 6; // labels shown of each row
  const at = (id) => document.getElementById(id);
  const state = at("rows-state");
  if (!state) return;

  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const several = (n, noun) => n.toLocaleString("en") + " " + noun + (n === 1 ? "" : "s");

  async function unpack(id) {
    const text = atob(at(id).textContent);
    at(id).textContent = "";
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  async function load() {
    const [packed, texts] = await Promise.all([unpack("rows-numbers"), unpack("rows-texts")]);
    const rows = JSON.parse(new TextDecoder().decode(texts));
    const numbers = new Uint16Array(packed);
    rows.count = rows.uids.length;
    let place = 0;
    const column = () => numbers.subarray(place, (place += rows.count));
    rows.gold = column();
    for (const arm of rows.arms) {
      arm.predicted = arm.seeds.map(column);
      arm.shares = rows.labels.map(column);
    }
    return rows;
  }

  // How many of an arm's seeds are right about a row, and whether all agree.
  const hits = (arm, gold, row) => {
    let right = 0;
    for (const predicted of arm.predicted) right += predicted[row] === gold[row];
    return right;
  };
  const isRight = (arm, gold, row) => 2 * hits(arm, gold, row) > arm.seeds.length;
  const agree = (arm, row) => arm.predicted.every((of) => of[row] === arm.predicted[0][row]);

  function pattern(query) {
    return query ? new RegExp(query.replace(/[.*+?^${}()|[\]\\\/]/g, "\\$&"), "giu") : null;
  }

  function textsOf(rows, row) {
    const found = Object.values(rows.fields).map((column) => column[row]);
    for (const column of Object.values(rows.references)) found.push(column[row] ?? "");
    for (const arm of rows.arms) found.push(arm.rationales[row]?.[1] ?? "");
    found.push(rows.uids[row]);
    return found;
  }

  function select(rows, wanted) {
    const arms = wanted.arm === "" ? rows.arms : [rows.arms[wanted.arm]];
    const other = wanted.other === "" ? null : rows.arms[wanted.other];
    const search = pattern(wanted.query);
    const right = (arm, row) => isRight(arm, rows.gold, row);
    const found = [];
    for (let row = 0; row < rows.count; row++) {
      if (wanted.gold !== "" && rows.gold[row] !== Number(wanted.gold)) continue;
      if (wanted.tag !== "" && !rows.tagged[row].includes(Number(wanted.tag))) continue;
      if (wanted.answer && !arms.every((arm) => right(arm, row) === (wanted.answer === "right"))) continue;
      if (other && !arms.every((arm) => (arm === other && arms.length > 1) || right(arm, row) !== right(other, row))) continue;
      if (wanted.seeds && !arms.every((arm) => agree(arm, row) === (wanted.seeds === "agree"))) continue;
      if (search && !textsOf(rows, row).some((text) => text.search(search) >= 0)) continue;
      found.push(row);
    }
    return found;
  }

  // A text with the search term marked; a button shows the rest of a long one.
  function write(into, text, search) {
    into.dir = "auto";
    const first = search && text.search(search) >= 0 ? -1 : LONG;
    if (first < 0) {
      let end = 0;
      for (const match of text.matchAll(search)) {
        into.append(text.slice(end, match.index), make("mark", "", match[0]));
        end = match.index + match[0].length;
      }
      into.append(text.slice(end));
    } else if (text.length > first + 60) {
      into.append(text.slice(0, first) + "…");
      const more = make("button", "", "Show all " + text.length.toLocaleString("en") + " characters");
      more.type = "button";
      more.addEventListener("click", () => {
        into.textContent = text;
        into.tabIndex = -1;
        into.focus();
      });
      into.append(more);
    } else into.textContent = text;
  }

  function entry(list, name, text, search) {
    list.append(make("dt", "", name));
    const value = make("dd");
    write(value, text, search);
    list.append(value);
  }

  function columns(rows, row) {
    if (rows.labels.length <= MOST_COLUMNS) return rows.labels.map((_, label) => label);
    const weight = rows.labels.map((_, label) => {
      let sum = label === rows.gold[row] ? Infinity : 0;
      for (const arm of rows.arms) sum += arm.shares[label][row];
      return sum;
    });
    return weight.map((_, label) => label).sort((a, b) => weight[b] - weight[a]).slice(0, MOST_COLUMNS);
  }

  function tableOf(rows, row, number) {
    const table = make("table");
    table.append(make("caption", "", "Probabilities of row " + number + " by arm"));
    const head = make("tr");
    const shown = columns(rows, row);
    for (const title of ["Arm", ...shown.map((label) => rows.labels[label])]) {
      const cell = make("th", "", title);
      cell.scope = "col";
      cell.dir = "auto";
      head.append(cell);
    }
    const body = make("tbody");
    for (const arm of rows.arms) {
      const line = make("tr");
      const name = make("th", "", arm.name);
      name.scope = "row";
      name.append(make("span", "sub", hits(arm, rows.gold, row) + " of " + several(arm.seeds.length, "seed") + " right"));
      line.append(name);
      for (const label of shown) {
        const share = arm.shares[label][row] / 10;
        const votes = arm.predicted.filter((of) => of[row] === label).length;
        const kind = 2 * votes > arm.seeds.length ? (label === rows.gold[row] ? " chosen right" : " chosen wrong") : "";
        const cell = make("td", "share" + kind, share.toFixed(1) + "%");
        cell.style.setProperty("--share", share + "%");
        if (votes && arm.seeds.length > 1) cell.append(make("span", "votes", several(votes, "seed")));
        line.append(cell);
      }
      body.append(line);
    }
    const top = make("thead");
    top.append(head);
    table.append(top, body);
    return table;
  }

  function item(rows, row, search) {
    const element = make("li");
    const number = ((rows.number ? rows.number[row] : row) + 1).toLocaleString("en");
    const heading = make("h3", "", "Row " + number);
    const uid = make("span", "uid");
    write(uid, rows.uids[row], search);
    heading.append(uid, make("span", "chip gold", "gold: " + rows.labels[rows.gold[row]]));
    for (const tag of rows.tagged[row] ?? []) heading.append(make("span", "chip", rows.tags[tag]));
    element.append(heading);
    const texts = make("dl");
    for (const [name, column] of Object.entries(rows.fields)) entry(texts, name, column[row], search);
    for (const [name, column] of Object.entries(rows.references))
      if (column[row]) entry(texts, "Reference: " + name, column[row], search);
    for (const arm of rows.arms) {
      const written = arm.rationales[row];
      if (written) entry(texts, "Explanation by " + arm.name + ", seed " + written[0], written[1], search);
    }
    const around = make("div", "scroll");
    around.append(tableOf(rows, row, number));
    element.append(texts, around);
    return element;
  }

  function begin(rows) {
    const controls = ["arm", "answer", "other", "seeds", "gold", "tag"];
    const value = (name) => at("rows-" + name)?.value ?? "";
    let found = [];
    let page = 0;
    let search = null;

    function show() {
      const start = page * PER_PAGE;
      const here = found.slice(start, start + PER_PAGE);
      at("rows-list").replaceChildren(...here.map((row) => item(rows, row, search)));
      at("rows-pages").hidden = found.length <= PER_PAGE;
      at("rows-back").disabled = page === 0;
      at("rows-next").disabled = start + PER_PAGE >= found.length;
      at("rows-place").textContent =
        (start + 1).toLocaleString("en") + " to " + (start + here.length).toLocaleString("en") +
        " of " + found.length.toLocaleString("en");
    }

    function share() {
      if (!at("rows-share").open) return;
      const lines = rows.arms.map((arm) => {
        let sum = 0;
        for (const row of found) sum += hits(arm, rows.gold, row);
        const line = make("tr");
        const name = make("th", "", arm.name);
        name.scope = "row";
        const mean = found.length ? (100 * sum) / (found.length * arm.seeds.length) : NaN;
        line.append(name, make("td", "", found.length ? mean.toFixed(1) + "%" : "–"));
        return line;
      });
      at("share-body").replaceChildren(...lines);
    }

    function refresh() {
      const wanted = Object.fromEntries(controls.map((name) => [name, value(name)]));
      wanted.query = at("rows-search").value.trim();
      search = pattern(wanted.query);
      found = select(rows, wanted);
      page = 0;
      state.textContent =
        found.length === rows.count ? "All " + several(rows.count, "row")
          : found.length.toLocaleString("en") + " of " + several(rows.count, "row");
      show();
      share();
    }

    function turn(by) {
      page += by;
      show();
      at("rows").scrollIntoView();
    }

    let waiting = 0;
    at("rows-search").addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(refresh, 120);
    });
    at("rows-form").addEventListener("change", (event) => {
      // The search was answered while typing; to render again would lose the click that ended it.
      if (event.target !== at("rows-search")) refresh();
    });
    at("rows-form").addEventListener("submit", (event) => event.preventDefault());
    at("rows-form").addEventListener("reset", () => setTimeout(refresh));
    at("rows-share").addEventListener("toggle", share);
    at("rows-back").addEventListener("click", () => turn(-1));
    at("rows-next").addEventListener("click", () => turn(1));
    for (const id of ["rows-form", "rows-hint", "rows-share"]) at(id).hidden = false;
    refresh();
  }

  state.textContent = "Unpacking the rows…";
  load().then(begin, (error) => {
    state.textContent =
      "This browser cannot unpack the rows (" + error.message + "). They are in the run folder, " +
      "in rows.jsonl and in each arm's test.jsonl.";
  });
})();
