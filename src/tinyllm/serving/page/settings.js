/**
 * The settings of the reply. A value is null while nobody moved it: then it is not sent, and the
 * model's own default, stored with it, holds on the server and is shown here.
 */

import { button, byId, make } from "./dom.js";

const WIDE = matchMedia("(min-width: 68rem)");
const MAX_SEED = 2 ** 32;

/** `own` is the name under which a model stores its default. */
const SLIDERS = [
  {
    name: "temperature",
    own: "temperature",
    label: "Temperature",
    hint: "How daring the choice of words is. 0 always takes the likeliest one.",
    min: 0,
    max: 2,
    step: 0.05,
    usual: 0.8,
  },
  {
    name: "top_p",
    own: "top_p",
    label: "Top-p",
    hint: "Leaves out what is very unlikely: keeps the likeliest words that together have this share. 1 keeps all.",
    min: 0.05,
    max: 1,
    step: 0.01,
    usual: 0.95,
  },
  {
    name: "max_tokens",
    own: "max_new_tokens",
    label: "Length",
    hint: "The reply ends after so many tokens (a token is a short word or a piece of one).",
    min: 1,
    max: 256,
    step: 1,
    usual: null,
  },
];

export class Settings {
  /** @param {Record<string, unknown>} kept what `values` gave in an earlier visit */
  constructor(kept, onChange) {
    this.values = revive(kept);
    this.onChange = onChange;
    this.model = null;
    this.sliders = SLIDERS.map((slider) => new Slider(slider, this));
    byId("sliders").append(...this.sliders.map((slider) => slider.element));
    this.#listen();
    this.#place();
    this.#show();
  }

  /** Show the defaults of this model. */
  follow(model) {
    this.model = model;
    this.#show();
  }

  /** Return the fields of a request: what was set, and the seed to use. */
  sampling(seed) {
    const set = SLIDERS.filter(({ name }) => this.values[name] !== null);
    return { ...Object.fromEntries(set.map(({ name }) => [name, this.values[name]])), seed };
  }

  /** Return the seed that was set, or a fresh one: it is told with the reply. */
  seed() {
    return this.values.seed ?? Math.floor(Math.random() * MAX_SEED);
  }

  set(name, value) {
    this.values[name] = value;
    this.#show();
    this.onChange();
  }

  #listen() {
    byId("seed").addEventListener("input", ({ target }) => {
      const isUsable = target.value !== "" && target.validity.valid;
      this.set("seed", isUsable ? Number(target.value) : null);
    });
    byId("system").addEventListener("input", ({ target }) => this.set("system", target.value));
    byId("reset-settings").addEventListener("click", () => {
      this.values = revive({});
      byId("seed").value = "";
      this.#show();
      this.onChange();
    });
    byId("settings").addEventListener("submit", (event) => event.preventDefault());
    byId("open-settings").addEventListener("click", () => byId("settings-dialog").showModal());
    byId("close-settings").addEventListener("click", () => byId("settings-dialog").close());
    WIDE.addEventListener("change", () => this.#place());
  }

  /** Stand beside the conversation where there is room, in a dialog elsewhere. */
  #place() {
    if (WIDE.matches) byId("settings-dialog").close();
    byId(WIDE.matches ? "panel" : "settings-dialog").append(byId("settings"));
  }

  #show() {
    for (const slider of this.sliders) slider.show();
    const { seed, system } = this.values;
    if (seed !== null) byId("seed").value = seed;
    if (byId("system").value !== system) byId("system").value = system;
  }
}

function revive(kept) {
  const number = (value) => (Number.isFinite(value) ? value : null);
  const sliders = SLIDERS.map(({ name }) => [name, number(kept?.[name])]);
  const system = typeof kept?.system === "string" ? kept.system : "";
  return { ...Object.fromEntries(sliders), seed: number(kept?.seed), system };
}

class Slider {
  constructor(spec, settings) {
    this.spec = spec;
    this.settings = settings;
    const id = `setting-${spec.name}`;
    this.input = make("input", {
      type: "range",
      id,
      "aria-describedby": `${id}-hint`,
      on: { input: () => settings.set(spec.name, Number(this.input.value)) },
    });
    this.output = make("output", { for: id });
    this.reset = button("Reset", () => this.#reset(), { class: "quiet" });
    this.element = make(
      "div",
      { class: "field slider" },
      make("div", { class: "slider-head" }, make("label", { for: id, text: spec.label }), this.reset, this.output),
      this.input,
      make("p", { class: "hint", id: `${id}-hint`, text: spec.hint }),
    );
  }

  show() {
    const { name, min, step } = this.spec;
    const value = this.settings.values[name];
    Object.assign(this.input, { min, max: this.#max(), step, value: value ?? this.#default() });
    const text = this.#tell(value ?? this.#default());
    this.output.textContent = text;
    this.input.setAttribute("aria-valuetext", text);
    this.reset.disabled = value === null;
    this.reset.setAttribute("aria-label", `Reset ${this.spec.label} to ${this.#tell(this.#default())}`);
  }

  #reset() {
    this.settings.set(this.spec.name, null);
    this.input.focus(); // the button is disabled now and would lose the focus
  }

  #max() {
    return this.spec.name === "max_tokens" ? (this.settings.model?.context_length ?? this.spec.max) : this.spec.max;
  }

  #default() {
    return this.settings.model?.defaults?.[this.spec.own] ?? this.spec.usual ?? this.#max();
  }

  #tell(value) {
    if (this.spec.name !== "max_tokens") return value.toFixed(2);
    return value >= this.#max() ? "as long as fits" : `${value} tokens`;
  }
}
