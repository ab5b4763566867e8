"""How the tiny models behind the page draw by themselves."""

SHORT = {
    "temperature": 0.6,
    "min_new_tokens": 30,
    "max_new_tokens": 30,
    "stop_on_loop": False,
}
ENDLESS = {"min_new_tokens": 10**6, "stop_on_loop": False}
