/** Which models the server has, and which one or two of them are talked to. */

import { listModels } from "./api.js";
import { byId, make } from "./dom.js";

export class Models {
  /** @param {{model?: string, secondModel?: string, isComparing?: boolean}} kept */
  constructor(kept, onChange) {
    this.kept = { ...kept };
    this.onChange = onChange;
    /** @type {import("./api.js").Model[]} */
    this.all = [];
    this.isComparing = false;
    byId("model").addEventListener("change", () => this.#changed());
    byId("second-model").addEventListener("change", () => this.#changed());
    byId("compare").addEventListener("click", () => {
      this.isComparing = !this.isComparing;
      this.#changed();
    });
  }

  /** Ask the server for its models. Raises ServerError. */
  async load(key) {
    this.all = await listModels(key);
    this.isComparing = this.kept.isComparing === true && this.all.length > 1;
    const first = this.#find(this.kept.model) ?? this.all[0];
    const second = this.#find(this.kept.secondModel) ?? this.all.find((model) => model !== first);
    this.#fill("model", first);
    this.#fill("second-model", second);
    byId("model").disabled = !this.all.length;
    byId("compare").disabled = this.all.length < 2;
    byId("compare").title = this.all.length < 2 ? "Start the server with two checkpoints to compare them." : "";
    this.#changed();
  }

  /** The models that answer, one per column. */
  get chosen() {
    const ids = this.isComparing ? ["model", "second-model"] : ["model"];
    return ids.map((id) => this.#find(byId(id).value)).filter(Boolean);
  }

  /** What to keep until the next visit. */
  get choice() {
    if (!this.all.length) return this.kept;
    const { isComparing } = this;
    return { model: byId("model").value, secondModel: byId("second-model").value, isComparing };
  }

  #find(id) {
    return this.all.find((model) => model.id === id);
  }

  #fill(id, chosen) {
    const options = this.all.map((model) => make("option", { value: model.id, text: model.id }));
    byId(id).replaceChildren(...options);
    if (chosen) byId(id).value = chosen.id;
  }

  #changed() {
    byId("second-picker").hidden = !this.isComparing;
    byId("compare").setAttribute("aria-pressed", String(this.isComparing));
    byId("about-model").textContent = about(this.#find(byId("model").value));
    byId("about-second-model").textContent = about(this.#find(byId("second-model").value));
    this.onChange();
  }
}

function about(model) {
  if (!model) return "";
  const facts = [
    model.parameters && `${short(model.parameters)} parameters`,
    model.is_chat_tuned === false ? "continues a text" : memory(model.context_length),
  ];
  return facts.filter(Boolean).join(" · ");
}

const memory = (n) => n && `reads ${n.toLocaleString("en")} tokens`;

function short(n) {
  const [size, unit] = n >= 1e9 ? [1e9, "B"] : n >= 9.95e5 ? [1e6, "M"] : [1e3, "K"];
  return `${Number((n / size).toPrecision(2))}${unit}`;
}
