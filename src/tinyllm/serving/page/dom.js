/** Making elements. Text only ever becomes text nodes here: nothing a model writes is markup. */

/**
 * Return a new element. `on` holds event listeners, `text` the text, `class` the classes; all other
 * options are attributes (true is set empty, false and null are left out).
 * @param {string} tag
 * @param {Record<string, any>} [options]
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) setOption(element, name, value);
  element.append(...children);
  return element;
}

function setOption(element, name, value) {
  if (name === "on") {
    for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
  } else if (name === "text") element.textContent = value;
  else if (name === "class") element.className = value;
  else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
}

/** Return the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Return a button that does not submit forms. */
export function button(text, onClick, options = {}) {
  return make("button", { type: "button", text, on: { click: onClick }, ...options });
}

/** Let a screen reader say one sentence, once what it says now is done. */
export function announce(text) {
  byId("announcer").textContent = text;
}
