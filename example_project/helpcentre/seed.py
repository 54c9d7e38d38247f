"""The articles that the help-centre starts with. Both tenants answer the same questions, each in its own way."""

from __future__ import annotations

from typing import Final

from example_project.helpcentre.models import Article

ARTICLES: Final = {
    "acme": {
        "Refunds": (
            "You can send anything back within 30 days, as long as it is unused and the label is still on it.\n\n"
            "We pay the money back to the card that you paid with, within 5 working days of the parcel's arrival at "
            "our store. The return label is free. Gift cards and made-to-measure boots are not refunded."
        ),
        "Shipping": (
            "Orders over 50 euros are shipped free of charge; below that, shipping is 4.90 euros.\n\n"
            "What you order before 14:00 on a working day leaves our store the same day and arrives within 2 to 3 "
            "working days. Tents and kayaks are brought by a carrier who calls you first."
        ),
        "Opening hours": (
            "Our shop in Hill Street is open Monday to Saturday from 9:00 to 18:30. On the first Sunday of the month "
            "we open from 12:00 to 17:00.\n\n"
            "The telephone is answered on working days from 8:00 to 20:00."
        ),
        "Warranty": (
            "Tents, rucksacks and jackets have a warranty of 5 years, everything else of 2 years.\n\n"
            "A torn seam or a broken zip we repair free of charge, and we lend you a replacement for the time."
        ),
    },
    "globex": {
        "Refunds": (
            "A coffee machine can be returned within 14 days of delivery, used or not, in its own box.\n\n"
            "We refund the price less 15 euros for cleaning. Opened bags of beans cannot be returned. The money comes "
            "back as store credit, or to your bank account if you ask for it."
        ),
        "Shipping": (
            "Beans are roasted on Tuesdays and Fridays and shipped the next morning, for 2.90 euros.\n\n"
            "Machines are always shipped free of charge and insured, and need 4 to 6 working days. We do not ship "
            "machines to islands."
        ),
        "Opening hours": (
            "The roastery has no shop counter. You can collect an order on Tuesdays and Fridays, 15:00 to 19:00.\n\n"
            "We answer e-mail every day, and chat on working days from 10:00 to 16:00."
        ),
        "Descaling your machine": (
            "Descale once every two months, or after 300 cups. The machine shows an orange drop when it is time.\n\n"
            "Use a citric acid descaler, never vinegar: it spoils the seals, and the warranty does not cover that."
        ),
    },
}


def seed() -> int:
    """Adds the articles that are missing, and leaves the others as somebody may have changed them. → how many."""
    added = 0
    for tenant, articles in ARTICLES.items():
        for title, body in articles.items():
            _, created = Article.objects.get_or_create(tenant=tenant, title=title, defaults={"body": body})
            added += created
    return added
