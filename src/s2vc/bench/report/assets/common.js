"use strict";
// What every page of s2vc shares: packed data, elements made of text only, the choice of colours, and trouble shown.

const byId = (id) => document.getElementById(id);

/** The text of a packed block of the page, or null where the page has none of that name. */
async function unpack(name) {
  const block = byId(`packed-${name}`);
  if (!block) return null;
  const bytes = Uint8Array.from(atob(block.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** An element with attributes and children; texts stay texts, whatever is in them. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function showTrouble(message) {
  byId("trouble").textContent = message;
  byId("trouble").hidden = false;
}

/** Run what a page does; what goes wrong is said in the page, not in a console that nobody reads. */
async function guarded(run) {
  try {
    await run();
  } catch (error) {
    showTrouble(`This page does not work here: ${error.message}. A browser of 2023 or later is needed.`);
    throw error;
  }
}

const themeListeners = [];

function setUpTheme() {
  const root = document.documentElement;
  const buttons = [...document.querySelectorAll("[data-theme-choice]")];
  const show = () => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === (root.dataset.theme || "")));
    }
    for (const listener of themeListeners) listener();
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      root.dataset.theme = button.dataset.themeChoice;
      try { localStorage.setItem("s2vc-theme", root.dataset.theme); } catch (error) { /* no storage for files */ }
      show();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
