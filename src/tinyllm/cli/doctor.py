"""`tinyllm doctor`: what this machine has, in one page."""

from tinyllm.cli.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has and what is missing."""
    from tinyllm.cli.display import print_json, print_text
    from tinyllm.doctor import examine

    findings = examine()
    if as_json:
        print_json([finding._asdict() for finding in findings])
        return
    rows = [(f.what, f.value) for f in findings]
    width = max(len(what) for what, _ in rows)
    print_text("\n".join(f"{what.ljust(width)}  {value}" for what, value in rows))
    for finding in findings:
        if finding.advice:
            print_text(f"! {finding.what}: {finding.advice}")
