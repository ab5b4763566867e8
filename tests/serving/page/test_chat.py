"""Talking to one model and to two: send, stop, retry, edit, begin anew."""

from selenium.webdriver.common.keys import Keys

from tests.serving.page.browser import CHAT, PHONE, TEXT, Browser


def test_a_message_is_answered_by_the_chosen_model(page: Browser) -> None:
    reply = page.say("What does a fox say?")
    assert reply
    (body,) = page.bodies(CHAT)
    assert body["model"] == "chatty"
    assert body["messages"] == [{"role": "user", "content": "What does a fox say?"}]
    assert page.find("#message").get_property("value") == ""
    assert "30 tokens" in page.text(".facts")


def test_the_model_sees_the_conversation_so_far(page: Browser) -> None:
    first = page.say("One")
    page.say("Two")
    assert page.bodies(CHAT)[-1]["messages"] == [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Two"},
    ]


def test_a_reply_grows_and_stops_where_it_is_told_to(page: Browser) -> None:
    page.choose("#model", "endless")
    page.send("Tell me everything.")
    seen = page.until(lambda: len(page.reply()))
    page.until(lambda: len(page.reply()) > seen)
    assert page.sees(".is-writing")
    assert not page.sees("[data-send]")
    page.click("[data-stop]")
    page.wait_for_the_end()
    kept = page.reply()
    assert len(kept) > seen
    assert page.text(".why") == "Stopped."
    page.reload()
    assert page.reply() == kept


def test_escape_stops_too(page: Browser) -> None:
    page.choose("#model", "endless")
    page.send("Tell me everything.")
    page.until(page.reply)
    page.press(Keys.ESCAPE)
    page.wait_for_the_end()
    assert page.text(".why") == "Stopped."


def test_shift_and_enter_begin_a_new_line(page: Browser) -> None:
    page.find("#message").send_keys("one", Keys.SHIFT + Keys.ENTER)
    page.find("#message").send_keys("two")
    assert page.find("#message").get_property("value") == "one\ntwo"
    page.find("#message").send_keys(Keys.ENTER)
    page.wait_for_the_end()
    assert page.bodies(CHAT)[0]["messages"][0]["content"] == "one\ntwo"


def test_retry_writes_another_reply_in_its_place(page: Browser) -> None:
    page.say("Again")
    page.click("[data-action=retry]")
    page.until(lambda: len(page.bodies(CHAT)) == 2)
    page.wait_for_the_end()
    one, two = page.bodies(CHAT)
    assert one["messages"] == two["messages"]
    assert one["seed"] != two["seed"]
    assert page.text(".facts").endswith(f"seed {two['seed']}")
    assert len(page.find_all(".reply")) == 1


def test_a_seed_gives_the_same_reply_again(page: Browser) -> None:
    page.find("#seed").send_keys("7")
    first = page.say("Again")
    page.click("#new-conversation")
    assert page.say("Again") == first
    assert [body["seed"] for body in page.bodies(CHAT)] == [7, 7]


def test_a_full_context_is_told_of_and_so_is_what_no_longer_fits(page: Browser) -> None:
    page.choose("#model", "forgetful")
    page.say("Hello")
    assert "64 tokens at most" in page.text(".why")
    page.say("Hello")
    why = page.text(".turn:last-child .why")
    assert "2 oldest messages no longer fit and were left out." in why


def test_editing_the_last_message_asks_anew(page: Browser) -> None:
    page.say("First")
    page.say("Secnd")
    page.click("[data-action=edit]")
    assert page.find("#message").get_property("value") == "Secnd"
    page.find("#message").clear()
    page.send("Second")
    page.until(lambda: len(page.bodies(CHAT)) == 3)
    page.wait_for_the_end()
    assert [turn.text for turn in page.find_all(".asked .words")] == ["First", "Second"]
    said = [message["content"] for message in page.bodies(CHAT)[-1]["messages"]]
    assert (said[0], said[-1]) == ("First", "Second")


def test_an_edit_can_be_left(page: Browser) -> None:
    page.say("First")
    page.click("[data-action=edit]")
    page.click("#stop-editing")
    page.say("Second")
    assert [turn.text for turn in page.find_all(".asked .words")] == ["First", "Second"]


def test_a_new_conversation_forgets_and_can_be_taken_back(page: Browser) -> None:
    page.say("Old")
    page.click("#new-conversation")
    assert not page.find_all(".turn")
    page.click("#bring-back")
    assert page.text(".asked .words") == "Old"
    page.click("#new-conversation")
    page.say("New")
    assert [m["content"] for m in page.bodies(CHAT)[-1]["messages"]] == ["New"]


def test_a_reply_can_be_copied(page: Browser) -> None:
    permissions = {"origin": page.origin, "permissions": ["clipboardReadWrite"]}
    page.driver.execute_cdp_cmd("Browser.grantPermissions", permissions)
    page.choose("#model", "plain")
    page.find("#seed").send_keys("7")
    reply = page.say("Copy this")
    page.click("[data-action=copy]")
    page.until(lambda: page.text("#announcer") == "Copied.")
    copied = page.script("return navigator.clipboard.readText()")
    assert copied.startswith("Copy this")
    assert copied == reply.partition("\0")[0]  # a clipboard's text ends at a NUL


def test_a_model_that_is_not_tuned_for_chat_continues_the_text(page: Browser) -> None:
    page.choose("#model", "plain")
    assert page.text("#message-label") == "The beginning of a text"
    whole = page.say("Once upon a time")
    (body,) = page.bodies(TEXT)
    assert (body["model"], body["prompt"]) == ("plain", "Once upon a time")
    assert whole.startswith("Once upon a time")
    assert len(whole) > len("Once upon a time")


def test_text_is_never_taken_for_markup(page: Browser) -> None:
    page.choose("#model", "plain")
    evil = "<img src=/nowhere onerror=alert(1)><b>bold</b>"
    assert page.say(evil).startswith(evil)
    page.click("[data-action=odds]")
    assert not page.find_all("main img, main b")


def test_two_models_answer_the_same_message_side_by_side(page: Browser) -> None:
    page.click("#compare")
    assert page.find("#second-model").get_property("value") == "plain"
    page.say("Once upon a time")
    (chat,), (text,) = page.bodies(CHAT), page.bodies(TEXT)
    assert chat["messages"][-1]["content"] == text["prompt"] == "Once upon a time"
    assert chat["seed"] == text["seed"]
    left, right = page.find_all(".reply")
    assert left.rect["x"] + left.rect["width"] <= right.rect["x"]
    page.resize(PHONE)
    left, right = page.find_all(".reply")
    assert left.rect["y"] + left.rect["height"] <= right.rect["y"]


def test_two_models_write_at_the_same_time_and_stop_together(page: Browser) -> None:
    page.choose("#model", "endless")
    page.click("#compare")
    page.choose("#second-model", "endless")
    page.send("Both of you")
    page.until(lambda: len(page.find_all(".reply")) == 2)
    page.until(lambda: page.reply(0) and page.reply(1))
    seen = len(page.reply(0)), len(page.reply(1))
    page.until(lambda: len(page.reply(0)) > seen[0] and len(page.reply(1)) > seen[1])
    assert len(page.find_all(".is-writing")) == 2
    page.press(Keys.ESCAPE)
    page.wait_for_the_end()
    assert [why.text for why in page.find_all(".why")] == ["Stopped.", "Stopped."]


def test_each_of_two_models_sees_its_own_conversation(page: Browser) -> None:
    page.choose("#model", "endless")
    page.find("#setting-max_tokens").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 9)
    page.click("#compare")
    page.choose("#second-model", "chatty")
    page.say("One")
    replies = {"endless": page.reply(0), "chatty": page.reply(1)}
    page.say("Two")
    for body in page.bodies(CHAT)[-2:]:
        assert body["messages"][1]["content"] == replies[body["model"]]


def test_one_of_two_replies_can_be_asked_for_again(page: Browser) -> None:
    page.click("#compare")
    page.say("Once")
    left = page.reply(0)
    page.find_all("[data-action=retry]")[1].click()
    page.until(lambda: len(page.bodies(TEXT)) == 2)
    page.wait_for_the_end()
    assert page.reply(0) == left
    assert len(page.bodies(CHAT)) == 1
