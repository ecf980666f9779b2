"""Make the made-up months of seeds_data: six CSV exports a month, one row per customer each.

    python seeds_data/generate.py --out seeds_data --users 7043 --months 2 --seed 20240131

Nothing is read from anywhere: every customer comes out of the seed and of the tables of shares below, which
give the months the shapes and proportions of a streaming company's real exports.

How it works. `Customers` holds one value per customer and field. `first_month` draws month 000 (end of
January 2024), `next_month` moves everybody on by one month and lets some leave, return and join, and
`write_month` writes those present. A month depends on the seed, the options and the months before it, never
on how many months are asked for.

Same bytes everywhere. Draws use only PCG64's uniform numbers with + - * / sqrt and rounding, which IEEE 754
fixes to the last bit; log, exp and numpy's own distributions may differ between platforms and versions. Money
is kept in whole cents, hours with one decimal in tenths; both are divided only when written.
"""

import argparse
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Days = NDArray[np.datetime64]

ADD_ONS_FROM_MONTH = 3  # from this month on, subscriptions.csv has the four add_on_ columns
ADD_ONS = ("security", "backup", "device_protect", "support")

EPOCH = np.datetime64("2024-01", "M")  # the calendar month of month_000
MAX_USERS = 100_000_000
MAX_CHURN = 0.4  # keeps every customer's own share below 1
MAX_JOIN = 1.0  # at most twice as many customers from one month to the next
ROWS_PER_CHUNK = 50_000  # bounds the memory taken by text

# Codes are positions in these tuples.
GENDERS = np.array(["Male", "Female"], dtype=object)
CONTRACTS = np.array(["Month-to-month", "One year", "Two year"], dtype=object)
NETS = np.array(["DSL", "Fiber optic", "No"], dtype=object)
DSL, FIBER, NO_NET = 0, 1, 2
FLAGS = np.array(["False", "True", ""], dtype=object)
MISSING = 2

# --- Shares in month_000 and among those who join ----------------------------------------------------------


class Band(NamedTuple):
    """Customers with `first` to `last` months_active: their weight, weights of contracts, share with a family."""

    first: int
    last: int
    weight: int
    contracts: tuple[int, int, int]
    family: float


BANDS = (
    Band(0, 0, 16, (50, 20, 30), 0.20),
    Band(1, 1, 870, (98, 1, 1), 0.16),
    Band(2, 2, 340, (96, 3, 1), 0.20),
    Band(3, 5, 720, (95, 3, 2), 0.26),
    Band(6, 12, 1160, (83, 11, 6), 0.34),
    Band(13, 24, 1450, (72, 19, 9), 0.42),
    Band(25, 36, 1180, (58, 30, 12), 0.49),
    Band(37, 48, 1080, (42, 35, 23), 0.53),
    Band(49, 60, 1180, (28, 39, 33), 0.63),
    Band(61, 66, 660, (16, 34, 50), 0.67),
    Band(67, 71, 830, (6, 23, 71), 0.77),
    Band(72, 72, 514, (1, 5, 94), 0.86),
)
BAND_FIRST = np.array([band.first for band in BANDS])
BAND_LAST = np.array([band.last for band in BANDS])
BAND_WEIGHTS = [band.weight for band in BANDS]
CONTRACT_WEIGHTS = np.array([band.contracts for band in BANDS])
FAMILY_SHARE = np.array([band.family for band in BANDS])

AGE_FIRST = np.array([0, 13, 49])  # months_active from which the ages 0, 1 and 2 run
NET_WEIGHTS = np.array(  # by age, contract
    [
        [(346, 459, 195), (339, 56, 605), (265, 10, 725)],
        [(298, 615, 87), (448, 248, 304), (286, 99, 615)],
        [(216, 778, 6), (328, 560, 112), (401, 311, 288)],
    ]
)
LINE_WEIGHTS = np.array(  # by net, age: 0, 1 or 2 phone lines
    [
        [(28, 62, 10), (28, 52, 20), (28, 37, 35)],
        [(0, 60, 40), (0, 37, 63), (0, 20, 80)],
        [(0, 92, 8), (0, 80, 20), (0, 58, 42)],
    ]
)
SENIOR_SHARE = np.array([0.107, 0.268, 0.034])  # by net
PAPERLESS_SHARE = np.array([0.55, 0.77, 0.29])  # by net
DEPENDENTS_SHARE = np.array([(0.115, 0.589), (0.014, 0.145)])  # by senior, family
STREAM_SHARE = np.array([(0.20, 0.38, 0.60), (0.36, 0.56, 0.75), (0.0, 0.0, 0.0)])  # by net, age
ADD_ON_SHARE = np.array([(0.22, 0.46, 0.75), (0.15, 0.32, 0.59), (0.0, 0.0, 0.0)])  # by net, age
BOTH_STREAMS_SHARE = 0.3  # whose movies plan always equals their tv plan

SKIP_WEIGHTS = (67, 325, 790, 1350, 1760, 1750, 1490, 1120, 670, 330, 190, 95, 40, 15, 5)
REBUFFER_WEIGHTS = (1380, 2760, 2680, 1780, 900, 370, 90, 30, 7, 3)
FAILED_WEIGHTS = (845, 145, 9, 1)
TICKET_WEIGHTS = (7390, 2230, 340, 35, 5)
CHURN_SHARE = np.array([(0.29, 0.50, 0.16), (0.08, 0.18, 0.02), (0.01, 0.06, 0.01)])  # by contract, net

# --- Prices and use ----------------------------------------------------------------------------------------

NET_CENTS = np.array([2500, 5000, 0])
LINE_CENTS = np.array([0, 2000, 2500])
STREAM_CENTS = 1000
ADD_ON_CENTS = 500
PRICE_RISE_CENTS = 100
CENT_STEP = 5  # every amount is a multiple of this

SESSION_MINS = 28.613470915302842  # as in the real exports, the same for every customer and month
HOURS_LEVEL = (1.0, 0.98, 0.97, 0.96, 0.94, 0.92, 0.9, 0.91, 0.95, 0.97, 0.99, 1.02)  # January to December

# --- What changes from one month to the next, as shares of those present -----------------------------------

RETURN = 0.02  # of those away
LEAVE_IF_LABELLED, LEAVE_OTHERWISE = 2.2, 0.57  # times --churn; 1 on average, as about 26% are labelled
NEW_UNBILLED = 0.02  # of those who join: on the month's last day, so months_active 0
DEPENDENTS_CHANGE, SENIOR_CHANGE = 0.002, 0.0005
CONTRACT_CHANGE, NET_CHANGE, PRICE_CHANGE = 0.015, 0.004, 0.01
STREAM_CHANGE, ADD_ON_CHANGE = 0.01, 0.004  # each plan, each add-on
DEVICES_REDRAWN, SKIPS_REDRAWN, REBUFFERS_REDRAWN = 0.05, 0.3, 0.35
FAILED_REDRAWN, TICKETS_REDRAWN, LABELS_REDRAWN = 0.1, 0.12, 0.3


@dataclass(frozen=True)
class Turnover:
    """From one month to the next: who joins and who leaves, as shares of those present."""

    join: float
    churn: float


@dataclass
class Customers:
    """Every customer ever seen, in order of joining: arrays of shape (n,), add_ons of shape (n, 4).

    A customer's number is the position in these arrays. Those away keep their values until they return.
    """

    present: Bools
    signup: Days
    female: Bools
    senior: Bools
    family: Bools
    dependents: Bools
    months_active: Ints
    contract: Ints  # position in CONTRACTS
    net: Ints  # position in NETS
    lines: Ints  # phone lines, 0 to 2: never written, part of the fee
    tv: Bools
    movies: Bools
    add_ons: Bools
    paperless: Bools
    extra_cents: Ints  # what the fee differs by from the list price
    paid_cents: Ints
    taste: Floats  # hours watched beyond what the fee suggests, in standard deviations
    hours: Floats  # watched in the last 30 days
    devices: Ints
    skips: Ints
    rebuffers: Ints  # beyond the one that DSL adds
    failed: Ints
    tickets: Ints
    resolution_tenths: Ints  # tenths of an hour
    churn_label: Bools

    def __len__(self) -> int:
        """How many customers, present or not."""
        return len(self.present)

    def fee_cents(self) -> Ints:
        """Monthly fee in cents: list price of what is subscribed to, and the customer's own difference."""
        streams = self.tv.astype(np.int64) + self.movies
        extras = STREAM_CENTS * streams + ADD_ON_CENTS * self.add_ons.sum(axis=1)
        extras = np.where(self.net == NO_NET, 0, extras)
        fee: Ints = NET_CENTS[self.net] + LINE_CENTS[self.lines] + extras + self.extra_cents
        return fee

    def take(self, positions: Ints) -> "Customers":
        """The customers at these positions."""
        return Customers(*(getattr(self, field.name)[positions] for field in fields(self)))

    def followed_by(self, others: "Customers") -> "Customers":
        """These customers, then the others."""
        pairs = ((getattr(self, field.name), getattr(others, field.name)) for field in fields(self))
        return Customers(*(np.concatenate(pair) for pair in pairs))


class Dice:
    """The random draws of one month; every method draws one value per customer, n customers by default."""

    def __init__(self, seed: int, number: int) -> None:
        """The dice of month number."""
        self._generator = np.random.Generator(np.random.PCG64([seed, number]))

    def uniform(self, n: int) -> Floats:
        """Uniform in [0, 1)."""
        return self._generator.random(n)

    def chance(self, share: float | Floats, n: int) -> Bools:
        """True with this probability, which may differ between the n customers."""
        return self.uniform(n) < share

    def below(self, limits: Ints) -> Ints:
        """Whole numbers from 0 to limit - 1, all equally likely."""
        return np.minimum((self.uniform(len(limits)) * limits).astype(np.int64), limits - 1)

    def weighted(self, weights: Sequence[int], n: int) -> Ints:
        """Positions in weights, as often as their weights say."""
        edges = np.cumsum(weights)
        return np.searchsorted(edges, self.below(np.full(n, edges[-1])), side="right").astype(np.int64)

    def weighted_by(self, weights: Ints) -> Ints:
        """Like weighted, but each customer has its own weights: shape (n, number of positions)."""
        edges = np.cumsum(weights, axis=1)
        rolls = self.below(edges[:, -1])
        return np.asarray(np.sum(rolls[:, None] >= edges, axis=1), dtype=np.int64)

    def bell(self, n: int) -> Floats:
        """Very nearly standard normal, within -6 and 6: the sum of twelve uniform numbers, less 6."""
        total = self.uniform(n)
        for _ in range(11):
            total += self.uniform(n)
        return total - 6.0


# --- Drawing customers -------------------------------------------------------------------------------------


def as_of(number: int) -> np.datetime64:
    """The last day of month number, counted from January 2024."""
    following_month = EPOCH + np.timedelta64(number + 1, "M")
    last_day: np.datetime64 = following_month.astype("datetime64[D]") - np.timedelta64(1, "D")
    return last_day


def band_of(months_active: Ints) -> Ints:
    """Position in BANDS; the last one also takes everybody beyond 72 months."""
    return np.searchsorted(BAND_FIRST, months_active, side="right") - 1


def age_of(months_active: Ints) -> Ints:
    """Position in AGE_FIRST: 0 in the first year, 1 up to four years, 2 beyond."""
    return np.searchsorted(AGE_FIRST, months_active, side="right") - 1


def draw_signups(dice: Dice, months_active: Ints, number: int) -> Days:
    """Signup dates: the first month is billed at once, except to those who sign up on a month's last day."""
    months_before = np.maximum(months_active - 1, 0).astype("timedelta64[M]")
    first_billed = EPOCH + np.timedelta64(number, "M") - months_before
    days = dice.below(np.full(len(months_active), 27)).astype("timedelta64[D]")
    return np.where(months_active == 0, as_of(number), first_billed.astype("datetime64[D]") + days)


def draw_paid(dice: Dice, months_active: Ints, fee_cents: Ints) -> Ints:
    """Total paid in cents: months times fee, give or take earlier fees; in the first month the fee."""
    spread = 0.19 * np.sqrt(months_active) * dice.bell(len(fee_cents)) * fee_cents
    rounded = np.rint(spread / CENT_STEP).astype(np.int64) * CENT_STEP
    paid: Ints = months_active * fee_cents + np.where(months_active > 1, rounded, 0)
    return paid


def draw_extra(dice: Dice, n: int) -> Ints:
    """What fees differ by from the list price, in cents: 50 cents either way is usual."""
    return np.rint(10 * dice.bell(n)).astype(np.int64) * CENT_STEP


def draw_hours(dice: Dice, customers: Customers, number: int) -> Floats:
    """Hours watched in 30 days: more with a higher fee, by taste and season, and never twice the same."""
    usual = 19.75 + 0.001525 * customers.fee_cents() + 4.95 * customers.taste
    level = HOURS_LEVEL[number % 12] + 0.03 * dice.bell(len(customers))
    return np.clip(np.maximum(usual, 2.0) * level, 0.0, 744.0)


def draw_resolution(dice: Dice, n: int) -> Ints:
    """Average hours to resolve a ticket, in tenths; also for those without one, as in the real exports."""
    tenths: Ints = np.maximum(np.rint(100 + 39 * dice.bell(n)), 10).astype(np.int64)
    return tenths


def draw_labels(dice: Dice, customers: Customers) -> Bools:
    """Who is labelled as about to leave: by contract, net and time with us, failed payments and tickets."""
    months = customers.months_active
    by_months = np.where(months <= 2, 1.3, np.where(months <= 12, 1.1, 0.75))
    share = CHURN_SHARE[customers.contract, customers.net] * by_months
    return dice.chance(share + 0.1 * customers.failed + 0.06 * customers.tickets, len(customers))


def draw_customers(dice: Dice, months_active: Ints, number: int) -> Customers:
    """Customers with these months_active in month number, everything else drawn."""
    n = len(months_active)
    band, age = band_of(months_active), age_of(months_active)
    contract = dice.weighted_by(CONTRACT_WEIGHTS[band])
    net = dice.weighted_by(NET_WEIGHTS[age, contract])
    senior = dice.chance(SENIOR_SHARE[net], n)
    family = dice.chance(FAMILY_SHARE[band], n)
    tv = dice.chance(STREAM_SHARE[net, age], n)
    own_movies = dice.chance(STREAM_SHARE[net, age], n)
    add_on_share = ADD_ON_SHARE[net, age]
    customers = Customers(
        present=np.ones(n, dtype=np.bool_),
        signup=draw_signups(dice, months_active, number),
        female=dice.chance(0.495, n),
        senior=senior,
        family=family,
        dependents=dice.chance(DEPENDENTS_SHARE[senior.astype(np.int64), family.astype(np.int64)], n),
        months_active=months_active,
        contract=contract,
        net=net,
        lines=dice.weighted_by(LINE_WEIGHTS[net, age]),
        tv=tv,
        movies=np.where(dice.chance(BOTH_STREAMS_SHARE, n), tv, own_movies),
        add_ons=np.stack([dice.chance(add_on_share, n) for _ in ADD_ONS], axis=1),
        paperless=dice.chance(PAPERLESS_SHARE[net], n),
        extra_cents=draw_extra(dice, n),
        paid_cents=np.zeros(n, dtype=np.int64),
        taste=dice.bell(n),
        hours=np.zeros(n),
        devices=1 + dice.below(np.full(n, 3)),
        skips=dice.weighted(SKIP_WEIGHTS, n),
        rebuffers=dice.weighted(REBUFFER_WEIGHTS, n),
        failed=dice.weighted(FAILED_WEIGHTS, n),
        tickets=dice.weighted(TICKET_WEIGHTS, n),
        resolution_tenths=draw_resolution(dice, n),
        churn_label=np.zeros(n, dtype=np.bool_),
    )
    # These three follow from the fields above.
    customers.paid_cents = draw_paid(dice, months_active, customers.fee_cents())
    customers.hours = draw_hours(dice, customers, number)
    customers.churn_label = draw_labels(dice, customers)
    return customers


def first_month(seed: int, users: int) -> Customers:
    """The customers of month_000."""
    dice = Dice(seed, 0)
    band = dice.weighted(BAND_WEIGHTS, users)
    months_active = BAND_FIRST[band] + dice.below(BAND_LAST[band] - BAND_FIRST[band] + 1)
    return draw_customers(dice, months_active, 0)


# --- From one month to the next: each function changes the customers in place ------------------------------


def leave_and_return(dice: Dice, customers: Customers, churn: float) -> None:
    """Some of those present leave, more often if they are labelled so; a few of those away return."""
    n = len(customers)
    leave_share = churn * np.where(customers.churn_label, LEAVE_IF_LABELLED, LEAVE_OTHERWISE)
    leaves = customers.present & dice.chance(leave_share, n)
    returns = ~customers.present & dice.chance(RETURN, n)
    customers.present = (customers.present & ~leaves) | returns


def change_profiles(dice: Dice, customers: Customers) -> None:
    """A few gain or lose dependents or reach the seniors' age."""
    n = len(customers)
    customers.dependents ^= customers.present & dice.chance(DEPENDENTS_CHANGE, n)
    customers.senior |= customers.present & dice.chance(SENIOR_CHANGE, n)


def change_subscriptions(dice: Dice, customers: Customers) -> None:
    """A few change contract, net service, plans, add-ons or price; all pay for one more month."""
    c, n = customers, len(customers)
    contracts = dice.weighted_by(CONTRACT_WEIGHTS[band_of(c.months_active)])
    c.contract = redrawn(dice, c, CONTRACT_CHANGE, c.contract, contracts)
    nets = dice.weighted_by(NET_WEIGHTS[age_of(c.months_active), c.contract])
    c.net = redrawn(dice, c, NET_CHANGE, c.net, nets)
    c.lines = np.where(c.net == DSL, c.lines, np.maximum(c.lines, 1))  # only DSL goes without a phone line
    has_net = c.present & (c.net != NO_NET)
    c.tv ^= has_net & dice.chance(STREAM_CHANGE, n)
    c.movies ^= has_net & dice.chance(STREAM_CHANGE, n)
    for column in range(len(ADD_ONS)):
        c.add_ons[:, column] ^= has_net & dice.chance(ADD_ON_CHANGE, n)
    c.extra_cents = redrawn(dice, c, PRICE_CHANGE, c.extra_cents, PRICE_RISE_CENTS + draw_extra(dice, n))
    c.months_active = c.months_active + c.present
    c.paid_cents = c.paid_cents + np.where(c.present, c.fee_cents(), 0)


def redrawn(dice: Dice, customers: Customers, share: float, old: Ints, new: Ints) -> Ints:
    """The new value for this share of those present, the old one for the others."""
    return np.where(customers.present & dice.chance(share, len(customers)), new, old)


def change_usage(dice: Dice, customers: Customers, number: int) -> None:
    """Watched hours change for everybody; devices, skips and rebuffer events change for some."""
    c, n = customers, len(customers)
    c.hours = np.where(c.present, draw_hours(dice, c, number), c.hours)
    c.devices = redrawn(dice, c, DEVICES_REDRAWN, c.devices, 1 + dice.below(np.full(n, 3)))
    c.skips = redrawn(dice, c, SKIPS_REDRAWN, c.skips, dice.weighted(SKIP_WEIGHTS, n))
    c.rebuffers = redrawn(dice, c, REBUFFERS_REDRAWN, c.rebuffers, dice.weighted(REBUFFER_WEIGHTS, n))


def change_events(dice: Dice, customers: Customers) -> None:
    """Failed payments, tickets and labels are new for some."""
    c, n = customers, len(customers)
    c.failed = redrawn(dice, c, FAILED_REDRAWN, c.failed, dice.weighted(FAILED_WEIGHTS, n))
    new_support = c.present & dice.chance(TICKETS_REDRAWN, n)
    c.tickets = np.where(new_support, dice.weighted(TICKET_WEIGHTS, n), c.tickets)
    c.resolution_tenths = np.where(new_support, draw_resolution(dice, n), c.resolution_tenths)
    new_label = c.present & dice.chance(LABELS_REDRAWN, n)
    c.churn_label = np.where(new_label, draw_labels(dice, c), c.churn_label)


def next_month(customers: Customers, seed: int, number: int, turnover: Turnover, only_usage: bool) -> Customers:
    """The customers of month number, from those of the month before (which are changed)."""
    dice = Dice(seed, number)
    if only_usage:
        change_usage(dice, customers, number)
        return customers
    joining = round(turnover.join * int(customers.present.sum()))
    leave_and_return(dice, customers, turnover.churn)
    change_profiles(dice, customers)
    change_subscriptions(dice, customers)
    change_usage(dice, customers, number)
    change_events(dice, customers)
    months_active = np.where(dice.chance(NEW_UNBILLED, joining), 0, 1)
    return customers.followed_by(draw_customers(dice, months_active, number))


# --- User ids ----------------------------------------------------------------------------------------------

DIGIT_IDS = 10**4
LETTER_IDS = 26**5
ID_STREAM = 2**31  # no month has this number


def mixed(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """A 64-bit hash of each value (the last steps of splitmix64)."""
    values = values ^ key
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return hashes


def user_ids(numbers: Ints, seed: int) -> list[str]:
    """Ids such as 0417-QWBZK for customers' numbers: a Feistel network over (digits, letters).

    Each round adds to one half a hash of the other, which can be undone: no two numbers get the same id.
    """
    keys = np.random.SeedSequence([seed, ID_STREAM]).generate_state(8, np.uint64)
    digit_ids, letter_ids = np.uint64(DIGIT_IDS), np.uint64(LETTER_IDS)
    digits, letters = numbers.astype(np.uint64) % digit_ids, numbers.astype(np.uint64) // digit_ids
    for key_of_letters, key_of_digits in keys.reshape(4, 2):
        digits = (digits + mixed(letters, key_of_letters) % digit_ids) % digit_ids
        letters = (letters + mixed(digits, key_of_digits) % letter_ids) % letter_ids
    codes = np.full((len(numbers), 10), ord("-"), dtype=np.uint8)
    for place in range(4):
        codes[:, place] = digits // np.uint64(10**place) % np.uint64(10) + np.uint64(ord("0"))
    for place in range(5):
        codes[:, 5 + place] = letters // np.uint64(26**place) % np.uint64(26) + np.uint64(ord("A"))
    ids: list[str] = codes.view("S10")[:, 0].astype("U10").tolist()
    return ids


# --- Writing -----------------------------------------------------------------------------------------------

Table = dict[str, Iterable[str]]  # column name to the column's texts, one per customer


def flags(values: Bools) -> Iterable[str]:
    """True or False."""
    return named(FLAGS, values.astype(np.int64))


def named(names: NDArray[np.object_], codes: Ints) -> Iterable[str]:
    """The names at these positions."""
    texts: list[str] = names[codes].tolist()
    return texts


def counts(values: Ints) -> Iterable[str]:
    """Whole numbers."""
    return map(str, values.tolist())


def decimals(values: Floats) -> Iterable[str]:
    """The shortest text that reads back as the same number; 20 is written 20.0."""
    return map(repr, values.tolist())


def users_table(c: Customers) -> Table:
    """Columns of users.csv after user_id."""
    return {
        "signup_date": np.datetime_as_string(c.signup, unit="D").tolist(),
        "user_gender": named(GENDERS, c.female.astype(np.int64)),
        "user_is_senior": flags(c.senior),
        "has_family": flags(c.family),
        "has_dependents": flags(c.dependents),
    }


def subscriptions_table(c: Customers, with_add_ons: bool) -> Table:
    """Columns of subscriptions.csv after user_id; what needs a net service is empty for those without."""

    def if_net(values: Bools) -> Iterable[str]:
        return named(FLAGS, np.where(c.net == NO_NET, MISSING, values))

    table: Table = {
        "months_active": counts(c.months_active),
        "plan_stream_tv": if_net(c.tv),
        "plan_stream_movies": if_net(c.movies),
        "contract_type": named(CONTRACTS, c.contract),
        "paperless_billing": flags(c.paperless),
        "monthly_fee": decimals(c.fee_cents() / 100),
        "total_paid": decimals(c.paid_cents / 100),
        "net_service": named(NETS, c.net),
    }
    if with_add_ons:
        table |= {f"add_on_{name}": if_net(c.add_ons[:, column]) for column, name in enumerate(ADD_ONS)}
    return table


def usage_table(c: Customers) -> Table:
    """Columns of usage_agg_30d.csv after user_id."""
    return {
        "watch_hours_30d": decimals(c.hours),
        "avg_session_mins_7d": [repr(SESSION_MINS)] * len(c),
        "unique_devices_30d": counts(c.devices),
        "skips_7d": counts(c.skips),
        "rebuffer_events_7d": counts(c.rebuffers + (c.net == DSL)),
    }


def all_tables(c: Customers, with_add_ons: bool) -> dict[str, Table]:
    """The six files' columns after user_id."""
    return {
        "users": users_table(c),
        "subscriptions": subscriptions_table(c, with_add_ons),
        "usage_agg_30d": usage_table(c),
        "payments_agg_90d": {"failed_payments_90d": counts(c.failed)},
        "support_agg_90d": {
            "support_tickets_90d": counts(c.tickets),
            "ticket_avg_resolution_hrs_90d": decimals(c.resolution_tenths / 10),
        },
        "labels": {"churn_label": flags(c.churn_label)},
    }


def write_month(folder: Path, customers: Customers, seed: int, with_add_ons: bool) -> None:
    """Write the six files of those present, a chunk of customers at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    positions = np.flatnonzero(customers.present)
    with ExitStack() as stack:
        files = {}
        for name, table in all_tables(customers.take(positions[:0]), with_add_ons).items():
            path = folder / f"{name}.csv"
            files[name] = stack.enter_context(path.open("w", encoding="ascii", newline="\n"))
            files[name].write(",".join(["user_id", *table]) + "\n")
        for start in range(0, len(positions), ROWS_PER_CHUNK):
            chunk = positions[start : start + ROWS_PER_CHUNK]
            ids = user_ids(chunk, seed)
            for name, table in all_tables(customers.take(chunk), with_add_ons).items():
                rows = map(",".join, zip(ids, *table.values(), strict=True))
                files[name].write("\n".join(rows) + "\n")


# --- Command line ------------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(
        description="Write made-up monthly exports: DIR/month_NNN with six CSV files each. The same options "
        "give the same bytes anywhere; a month does not depend on how many months are asked for.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write the months in")
    add("--users", type=int, default=7043, metavar="N", help="customers in month_000")
    add("--months", type=int, default=2, metavar="N", help="how many months to write")
    add("--seed", type=int, default=20240131, metavar="N", help="what all draws start from")
    first_help = "first month to write; those before it are worked out but not written"
    add("--first-month-number", type=int, default=0, metavar="N", help=first_help)
    churn_help = "share of customers who leave from one month to the next"
    add("--churn", type=float, default=0.01, metavar="SHARE", help=churn_help)
    join_help = "customers who join from one month to the next, as a share of those present"
    add("--join", type=float, default=0.015, metavar="SHARE", help=join_help)
    only_help = "from month_001 on only usage_agg_30d changes: no one joins or leaves, no add-on columns"
    add("--only-usage-changes", action="store_true", help=only_help)
    options = parser.parse_args()
    if not 1 <= options.users <= MAX_USERS:
        parser.error(f"--users must be 1 to {MAX_USERS}")
    if not 0 <= options.churn <= MAX_CHURN:
        parser.error(f"--churn must be 0 to {MAX_CHURN}")
    if not 0 <= options.join <= MAX_JOIN:
        parser.error(f"--join must be 0 to {MAX_JOIN}")
    if options.months < 1 or options.first_month_number < 0 or options.seed < 0:
        parser.error("--months must be 1 or more, --first-month-number and --seed 0 or more")
    return options


def main() -> None:
    """Work out every month up to the last one asked for, and write those asked for."""
    options = parse_arguments()
    customers = first_month(options.seed, options.users)
    turnover = Turnover(options.join, options.churn)
    for number in range(options.first_month_number + options.months):
        if number > 0:
            customers = next_month(customers, options.seed, number, turnover, options.only_usage_changes)
        if number >= options.first_month_number:
            with_add_ons = number >= ADD_ONS_FROM_MONTH and not options.only_usage_changes
            write_month(options.out / f"month_{number:03d}", customers, options.seed, with_add_ons)


if __name__ == "__main__":
    main()
