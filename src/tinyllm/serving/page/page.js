/** The page: puts the parts together, keeps them over a reload, and tells what the server lacks. */

import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { revive } from "./conversation.js";
import { announce, button, byId, make } from "./dom.js";
import { Models } from "./models.js";
import { Settings } from "./settings.js";
import { load, loadKey, save, saveKey } from "./storage.js";
import { StoryForm } from "./story.js";

const IDEAS = {
  chat: ["Tell me a story about a fox.", "Write a story with the words: apple, jump, shiny.", "What does a cow say?", "Where does a rabbit live?"],
  text: ["Once upon a time, there was a little", "One day, a small fox", "The sun was warm and"],
};

const KEEP_AFTER_MS = 400;

class Page {
  constructor() {
    const kept = load();
    this.key = loadKey();
    const onChange = () => this.#changed();
    this.settings = new Settings(kept.settings, onChange);
    this.models = new Models(kept.models ?? {}, onChange);
    this.story = new StoryForm(kept.story, {
      onTell: (request) => this.chat.send(request, { isAlone: true }),
      onChange,
    });
    this.composer = new Composer(kept.composer ?? {}, {
      onSend: (text) => this.chat.send(text),
      onStop: () => this.chat.stop(),
      onStopEditing: () => this.#edit(false),
      onChange,
    });
    this.chat = this.#makeChat(kept, onChange);
    this.#listen();
    this.#changed();
    this.#connect();
  }

  #makeChat(kept, onChange) {
    return new Chat({
      turns: revive(kept.turns),
      previous: revive(kept.previous),
      models: this.models,
      settings: this.settings,
      key: () => this.key,
      onChange,
      onEdit: (turn) => {
        this.#edit(true);
        this.composer.write(turn.text, { isEditing: true });
      },
      onRefused: () => this.#askForKey(),
    });
  }

  #listen() {
    byId("new-conversation").addEventListener("click", () => {
      this.chat.clear();
      this.composer.write("");
    });
    byId("bring-back").addEventListener("click", () => this.chat.bringBack());
    byId("ask-again").addEventListener("click", () => this.#connect());
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.key = byId("api-key").value.trim();
      saveKey(this.key);
      this.#connect();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.chat.isWriting && !byId("settings-dialog").open) this.chat.stop();
    });
    addEventListener("pagehide", () => this.#keep());
  }

  /** Ask the server for its models, and show what stands in the way. */
  async #connect() {
    byId("server-trouble").hidden = true;
    try {
      await this.models.load(this.key);
      byId("key-form").hidden = true;
      if (!this.models.all.length) this.#complain("The server has no model to talk to.");
    } catch (error) {
      if (error.status === 401) this.#askForKey();
      else this.#complain(error.message);
    }
  }

  #complain(text) {
    byId("server-trouble-text").textContent = text;
    byId("server-trouble").hidden = false;
    announce(text);
  }

  #askForKey() {
    byId("key-form").hidden = false;
    byId("key-answer").textContent = this.key ? "This key was not accepted." : "";
    byId("api-key").focus();
  }

  #edit(isEditing) {
    this.chat.isEditing = isEditing;
  }

  #changed() {
    if (!this.chat) return; // the parts tell of changes while they are being made
    const [model] = this.models.chosen;
    const isChat = model?.is_chat_tuned !== false;
    if (this.settings.model !== model) this.#follow(model, isChat);
    this.composer.show({ isWriting: this.chat.isWriting, canSend: Boolean(model), isChat });
    byId("bring-back").hidden = !this.chat.previous.length;
    document.body.classList.toggle("is-comparing", this.models.isComparing);
    this.#keepSoon();
  }

  #follow(model, isChat) {
    this.settings.follow(model);
    this.story.follow(model);
    byId("welcome-title").textContent = isChat ? "Say something to your model" : "Begin a text";
    byId("welcome-text").textContent = isChat
      ? "It is small and knows little, but it is yours. What you write goes to this server only. Try one of these:"
      : "This model has not learnt to answer: it goes on with the text that you begin. Try one of these:";
    const ideas = IDEAS[isChat ? "chat" : "text"];
    byId("ideas").replaceChildren(...ideas.map((idea) => this.#idea(idea)));
  }

  #idea(text) {
    return make("li", {}, button(text, () => this.chat.send(text)));
  }

  #keepSoon() {
    clearTimeout(this.keeping);
    this.keeping = setTimeout(() => this.#keep(), KEEP_AFTER_MS);
  }

  #keep() {
    const { turns, previous } = this.chat;
    const isKept = save({
      turns,
      previous,
      settings: this.settings.values,
      models: this.models.choice,
      story: this.story.choice,
      composer: this.composer.choice,
    });
    byId("storage-notice").hidden = isKept;
  }
}

new Page();
