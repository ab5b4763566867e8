"""`tinyllm doctor`: what this machine has, in one page."""

from tinyllm.cli.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has and what is missing."""
    from tinyllm.cli.display import print_facts, print_json, print_text
    from tinyllm.doctor import examine

    findings = examine()
    if as_json:
        print_json([finding._asdict() for finding in findings])
        return
    print_facts([(finding.what, finding.value) for finding in findings])
    for finding in findings:
        if finding.advice:
            print_text(f"! {finding.what}: {finding.advice}")
