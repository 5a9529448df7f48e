"use strict";
// The theme, the contents, and printing. The page is complete without this.
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  document.getElementById("theme-control").hidden = false;
  theme.addEventListener("change", () => {
    if (theme.value) root.dataset.theme = theme.value;
    else delete root.dataset.theme;
  });

  const list = document.createElement("ul");
  for (const heading of document.querySelectorAll("main h2")) {
    const link = document.createElement("a");
    link.href = "#" + heading.id;
    link.textContent = heading.textContent;
    const item = document.createElement("li");
    item.append(link);
    list.append(item);
  }
  const contents = document.getElementById("contents");
  contents.append(list);
  contents.hidden = false;

  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const each of opened) each.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
  });
})();
