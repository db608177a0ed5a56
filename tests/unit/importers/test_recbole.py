"""RecBole's configurations and atomic files: what becomes of them, and what is said to differ."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.errors import InputError
from recsys_zoo.importers.imported import write_imported
from recsys_zoo.importers.recbole import import_recbole
from recsys_zoo.importers.recnets import NETS
from recsys_zoo.runs import read_recipe
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.optim import Optimizer
from recsys_zoo.zoo import create, resolve

from ..train.toys import SCHEMA, inputs

HEADER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\tprice:float\ttags:token_seq\tplace:token"
)
LOAD = "load_col:\n  inter: [user_id, item_id, rating, timestamp, price, tags, place]\n"
LABEL = "threshold: {rating: 4}\n"
TAGS, PLACES = ("a b c", "b", "", "c  a"), ("home", "NA", "work")


def rows() -> list[tuple[str, str, float, int, float | None, str, str]]:
    """Seven users with 1, 4, ..., 19 rows, moments in no order of the file, ratings about the threshold."""
    made = []
    for user in range(7):
        for k in range(1 + 3 * user):
            price = None if (user + k) % 5 == 0 else float(user * k % 11)
            moment = 100 + (k * 7 + user) % 23
            made.append(
                (
                    f"u{user}",
                    f"i{k % 6}",
                    (3.5, 4, 4.5)[(user + k) % 3],
                    moment,
                    price,
                    TAGS[k % 4],
                    PLACES[(user + k) % 3],
                )
            )
    return made


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of atomic files, with a configuration beside it."""
    (tmp_path / "shop").mkdir()
    lines = ["\t".join("" if v is None else str(v) for v in row) for row in rows()]
    (tmp_path / "shop" / "shop.inter").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return tmp_path


def bring(shop: Path, text: str = LOAD + LABEL, model: str = "FM"):
    path = shop / "config.yaml"
    path.write_text(f"data_path: {shop}\ndataset: shop\nmodel: {model}\n{text}", encoding="utf-8")
    return import_recbole([path])


def prepared(shop: Path, text: str):
    """What `prepare` makes of the imported schema: the data and their encoder."""
    write_imported(bring(shop, text), shop / "recipe.toml", shop / "schema.toml")
    data = prepare([shop / "shop" / "shop.inter"], DataSpec.load(shop / "schema.toml"), shop / "prepared")
    return data, Encoder.open(shop / "prepared" / "encoding")


def test_defaults_are_recboles(shop):
    """overall.yaml, DeepFM.yaml and context-aware.yaml of RecBole 1.2.1."""
    write_imported(bring(shop, LOAD + LABEL, "DeepFM"), shop / "out.toml")
    cfg = read_recipe(shop / "out.toml").resolved()
    model, train = cfg.model, cfg.train
    assert (model["name"], model["hidden"], model["dropout"]) == ("deepfm", [128, 128, 128], 0.2)
    assert (model["embedding"]["dim"], model["batch_norm"]) == (10, False)
    assert (train.epochs, train.batch_size, train.lr, train.seed) == (300, 2048, 1e-3, 2020)
    assert (train.patience, train.min_delta, train.plateau_factor) == (11, 0.0, 1.0)
    assert (train.monitor, train.table_l2, train.net_l2) == ("auc", 0.0, 0.0)


def test_what_the_files_say_wins_and_the_later_file_most(shop):
    text = "learning_rate: 1e-2\nweight_decay: 1e-4\nstopping_step: 3\neval_step: 2\nembedding_size: 4\n"
    first, second = shop / "a.yaml", shop / "b.yaml"
    first.write_text(text + "epochs: 7\nmlp_hidden_size: [8]\nclip_grad_norm: {max_norm: 5}\n")
    second.write_text("epochs: 9\nvalid_metric: LogLoss\n")
    found = import_recbole([first, second], "DCN", "shop", shop / "shop")
    train, model = found.recipe["train"], found.recipe["model"]
    assert (train["lr"], train["table_l2"], train["net_l2"]) == (1e-2, 1e-4, 1e-4)
    assert (train["epochs"], train["patience"], train["monitor"]) == (9, 8, "logloss")
    assert train["clip_norm"] == 5.0
    assert (model["hidden"], model["layers"], model["embedding"]["dim"]) == ([8], 6, 4)
    assert model["batch_norm"] is True


@pytest.mark.parametrize("name", NETS)
def test_every_network_is_translated_without_a_setting_left_over(shop, name):
    """RecBole's defaults of every network make a recipe that our model accepts; none of them is unknown."""
    found = bring(shop, LOAD + LABEL, name)
    known = resolve(NETS[name].name)[0].Config.model_fields
    assert set(found.recipe["model"]) <= {*known, "name"}
    said = {line.split(" = ")[0] for line in found.differences if "has no counterpart" in line}
    assert said == ({"direct"} if name == "xDeepFM" else set())
    assert any("reg_weight" in line for line in found.differences) == bool(
        NETS[name].defaults.get("reg_weight")
    )


def test_settings_that_act_together(shop):
    model = bring(shop, "mixed: True\nexpert_num: 3\nlow_rank: 5\nstructure: parallel\n", "DCNV2").recipe[
        "model"
    ]
    assert (model["experts"], model["rank"], model["structure"]) == (3, 5, "parallel")
    assert "experts" not in bring(shop, "", "DCNV2").recipe["model"]
    model = bring(shop, "dropout_probs: [0.1, 0.3, 0.5]\nhas_residual: True\n", "AutoInt").recipe["model"]
    assert (model["attention_dropout"], model["dropout"], model["res"]) == (0.1, 0.3, "always")
    assert bring(shop, "", "AutoInt").recipe["model"]["res"] == "none"
    assert bring(shop, "dropout_prob: 0.3\n", "NFM").recipe["model"]["pooling_dropout"] == 0.3


def test_weight_decay_is_the_same_algorithm():
    """table_l2 = net_l2 without clipping, against torch's Adam with weight_decay, as RecBole has it."""
    decay, clip = 0.3, 1e30
    ours, theirs = (create("nfm", SCHEMA, seed=3, hidden=[5], pooling_batch_norm=True) for _ in range(2))
    step = Optimizer(ours, TrainConfig(table_l2=decay, net_l2=decay, clip_norm=clip), lr=0.01)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01, weight_decay=decay)
    for k in range(5):
        x, labels = inputs(20, k)
        for model in (ours, theirs):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x), labels)
            step.begin() if model is ours else adam.zero_grad()
            loss.backward()
            step.step() if model is ours else adam.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)  # the fused Adam rounds otherwise


def test_labels_tokens_bags_and_numbers_come_out_as_recbole_has_them(shop):
    """Against plain Python over the rows: >= threshold, the first values of a list, pandas' missing texts."""
    data, encoder = prepared(
        shop,
        LOAD + LABEL + "seq_len: {tags: 2}\nnumerical_features: [price]\n"
        "normalize_field: [price]\neval_args: {split: {RS: [8, 1, 1]}, order: TO, "
        "group_by: None, mode: labeled}\n",
    )
    got = []
    for name in ("train", "valid", "test"):
        split = data.split(name)
        inputs = split.inputs(slice(None))
        columns = [c.name for c in data.schema.of("categorical")]
        for k, label in enumerate(split.labels[:, 0].tolist()):
            tokens = [encoder.decode(c, inputs.ids[k, j : j + 1].numpy())[0] for j, c in enumerate(columns)]
            bag = [v for v in encoder.decode("tags", inputs.bags["tags"][k].numpy()) if v]
            got.append((*tokens, " ".join(bag), label, inputs.numeric[k, 0].item() == 0.0))
    assert columns == ["user_id", "item_id", "place"]
    known = {c: set(encoder.vocabularies[c].values) for c in (*columns, "tags")}
    expected = []
    for user, item, rating, _, price, tags, place in rows():
        tokens = [v if v in known[c] else None for c, v in zip(columns, (user, item, place), strict=True)]
        expected.append((*tokens, " ".join(tags.split()[:2]), float(rating >= 4), price is None))
    assert Counter(got) == Counter(expected)
    assert known["place"] == {"home", "work"}  # without NA


def recbole_user_split(shares: list[float]) -> dict[int, str]:
    """RecBole's rule by a loop: by moment (ties in file order) cut each user's rows, later parts down."""
    where = {}
    for user in {row[0] for row in rows()}:
        own = sorted((row[3], n) for n, row in enumerate(rows()) if row[0] == user)
        counts = [int(share * len(own)) for share in shares]
        counts[0] = len(own) - sum(counts[1:])
        names = [name for name, n in zip(("train", "valid", "test"), counts, strict=True) for _ in range(n)]
        where |= {n: name for (_, n), name in zip(own, names, strict=True)}
    return where


def test_the_split_by_user_in_time_holds_out_the_same_rows(shop):
    shares = [
        0.5,
        0.25,
        0.25,
    ]  # no user of the shop has a share strictly between 0 and 1 row but one of 1 row
    data, encoder = prepared(
        shop,
        LOAD + LABEL + f"eval_args: {{split: {{RS: {shares}}}, order: TO, group_by: user, mode: labeled}}\n",
    )
    where = recbole_user_split(shares)
    for name in ("train", "valid", "test"):
        ids = data.split(name).inputs(slice(None)).ids
        columns = [c.name for c in data.schema.of("categorical")]
        got = Counter(
            zip(*(encoder.decode(c, ids[:, j].numpy()) for j, c in enumerate(columns)), strict=True)
        )
        own = [row for n, row in enumerate(rows()) if where[n] == name]
        assert got == Counter((r[0], r[1], None if r[6] == "NA" else r[6]) for r in own)


USER = {"method": "user", "user": "user_id:token"}
TIME = "timestamp:float"


@pytest.mark.parametrize(
    ("asked", "split", "said"),
    [
        (
            "split: {RS: [6, 2, 2]}, order: RO, group_by: None",
            {"method": "hash"},
            "a fixed hash of the row number",
        ),
        ("split: {RS: [6, 2, 2]}", {"method": "hash"}, "shares of each user are exact there"),
        (
            "split: {RS: [6, 2, 2]}, order: TO, group_by: none",
            {"method": "time", "column": TIME},
            "stay together",
        ),
        ("split: {TS: [6, 2, 2]}, order: TO", {"method": "time", "column": TIME}, "split TS"),
        ("split: {TS: [6, 2, 2]}", {"method": "time", "column": TIME}, "with order RO the times"),
        (
            "split: {RS: [6, 2, 2]}, order: TO",
            {**USER, "column": TIME, "last": {"valid": 0.2, "test": 0.2}},
            "split RS by user",
        ),
        (
            "split: {LS: valid_and_test}, order: TO",
            {**USER, "column": TIME, "last": {"valid": 1, "test": 1}},
            "too few rows",
        ),
        (
            "split: {LS: test_only}, order: RO",
            {**USER, "column": "", "last": {"test": 1}},
            "in the order of the file",
        ),
        ("mode: uni100", {"method": "hash"}, "mode = 'uni100'"),
        ("mode: {valid: labeled, test: full}", {"method": "hash"}, "mode of test = 'full'"),
    ],
)
def test_splits(shop, asked, split, said):
    found = bring(
        shop,
        LOAD + LABEL + f"eval_args: {{mode: labeled, {asked}}}\n"
        if "mode" not in asked
        else LOAD + LABEL + f"eval_args: {{{asked}}}\n",
    )
    made = found.schema["split"]
    assert {key: made[key] for key in split} == split
    assert any(said in line for line in found.differences)
    shares = made.get("fractions")
    if shares and "6, 2, 2" in asked:
        assert shares == pytest.approx({"train": 0.6, "valid": 0.2, "test": 0.2})


def test_given_splits_are_files(shop):
    for part in ("one", "two"):
        (shop / "shop" / f"shop.{part}.inter").write_text(HEADER + "\n", encoding="utf-8")
    found = bring(shop, LOAD + LABEL + "benchmark_filename: [one, two]\n")
    assert found.schema["split"] == {"method": "files"}
    assert found.prepare == f"{shop}/shop/shop.one.inter --split valid={shop}/shop/shop.two.inter"


def test_only_what_recbole_loads_and_uses_is_an_input(shop):
    def names(text: str) -> list[str]:
        return [c["name"] for c in bring(shop, LABEL + text).schema["columns"]]

    assert names("load_col: {inter: '*'}\n") == ["user_id", "item_id", "tags", "place"]
    assert names("load_col: null\nunload_col: {inter: [tags]}\n") == ["user_id", "item_id", "place"]
    assert names(LOAD + "unused_col: {inter: [place]}\n") == ["user_id", "item_id", "tags"]
    assert names(LOAD + "numerical_features: [price]\n") == ["user_id", "item_id", "price", "tags", "place"]
    found = bring(shop, LABEL + "load_col: {inter: [user_id, item_id, rating, colour]}\n")
    assert "load_col: .inter has no column 'colour'; it is passed over, as there" in found.differences


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", {"kind": "numeric", "rule": "linear"}),
        ("normalize_all: True\n", {"kind": "numeric", "rule": "standardise"}),
        (
            "discretization: {price: {method: ED, bucket: 5}}\n",
            {"kind": "categorical", "rule": "quantile", "bins": 5},
        ),
        ("discretization: {price: {method: LD}}\n", {"kind": "categorical", "rule": "log_square"}),
    ],
)
def test_numbers(shop, text, rule):
    found = bring(shop, LOAD + LABEL + "numerical_features: [price]\n" + text)
    column = next(c for c in found.schema["columns"] if c["name"] == "price")
    assert {key: column[key] for key in rule} == rule
    assert any(line.startswith("column 'price': ") for line in found.differences)


def test_what_is_not_done_is_said_by_name(shop):
    text = (
        "val_interval: {price: '[1,5]'}\nuser_inter_num_interval: '[5,inf)'\nrm_dup_inter: first\n"
        "train_neg_sample_args: {distribution: uniform}\nlearner: sgd\nsurprise: 3\nshuffle: False\n"
        "item_inter_num_interval: '[0,inf)'\ngpu_id: 0\nMAX_ITEM_LIST_LENGTH: 20\n"
    )
    said = "\n".join(bring(shop, LOAD + LABEL + text).differences)
    for key in (
        "val_interval",
        "user_inter_num_interval",
        "rm_dup_inter",
        "train_neg_sample_args",
        "learner",
        "surprise",
        "shuffle",
    ):
        assert f"{key} = " in said
    for key in ("item_inter_num_interval", "gpu_id", "MAX_ITEM_LIST_LENGTH"):
        assert key not in said


def test_gauc_needs_the_user(shop):
    found = bring(shop, LOAD + LABEL + "valid_metric: GAUC\n")
    assert (found.recipe["train"]["monitor"], found.schema["group"]) == ("gauc", "user_id:token")


def test_without_files_or_a_label_there_is_no_schema(shop):
    found = bring(shop, LOAD)
    with pytest.raises(InputError, match=r"--schema .*no column holds the label: 'label' is not loaded"):
        write_imported(found, shop / "out.toml", shop / "schema.toml")
    assert not (shop / "out.toml").exists()
    (shop / "shop" / "shop.inter").unlink()
    found = bring(shop)
    assert found.schema is None
    assert "shop.inter: no such file" in found.differences[-1]


@pytest.mark.parametrize(
    ("text", "model", "said"),
    [
        ("", "DeepFMM", r"no model to translate named 'DeepFMM'; did you mean \['DeepFM'"),
        ("valid_metric: MRR@10\n", "FM", "valid_metric = 'MRR@10' is not translated; choose one of AUC"),
        ("load_col: [user_id]\n", "FM", r"load_col = \['user_id'\]: is no table"),
        (LOAD + "threshold: {place: 1}\n", "FM", "threshold on 'place': no float column"),
        (LOAD + "threshold: {rating: 1, price: 2}\n", "FM", "RecBole takes one column"),
        (LOAD + LABEL + "field_separator: '::'\n", "FM", "field_separator = '::'"),
        (
            LOAD + LABEL + "unload_col: {inter: [tags]}\n",
            "FM",
            "load_col and unload_col both name columns of .inter",
        ),
        (
            LABEL + "load_col: {inter: [user_id, item_id, rating]}\neval_args: {order: TO}\n",
            "FM",
            r"the order TO needs the column 'timestamp' \(TIME_FIELD\)",
        ),
        (
            LOAD + LABEL + "eval_args: {split: {XS: [1, 1]}}\n",
            "FM",
            "write RS or TS with three shares, or LS",
        ),
        (LOAD + LABEL + "eval_args: {split: {LS: both}}\n", "FM", "LS = 'both': write one of"),
        (LOAD + LABEL + "stopping_step: soon\n", "FM", "stopping_step = 'soon': is no whole number"),
        (LOAD + LABEL + "embedding_size: 0\n", "FM", "translated: model: embedding.dim = 0"),
        (LOAD + LABEL + "dropout_probs: 0.2\n", "AutoInt", "takes a list of three rates"),
        (
            LOAD + LABEL + "numerical_features: [price]\ndiscretization: {price: {method: ED}}\n",
            "FM",
            "RecBole knows ED with bucket, and LD",
        ),
        (
            LOAD + LABEL + "numerical_features: [price]\ndiscretization: {price: {method: ED, bucket: x}}\n",
            "FM",
            "discretization of 'price' = {'method': 'ED', 'bucket': 'x'}: RecBole knows",
        ),
        (
            LOAD + LABEL + "numerical_features: [price]\ndiscretization: {price: 5}\n",
            "FM",
            "discretization of 'price' = {'method': 5}",
        ),
        (LOAD + "threshold: {rating: high}\n", "FM", "threshold on 'rating' = 'high': is no number"),
        (LOAD + LABEL + "seq_len: {tags: long}\n", "FM", "seq_len of 'tags' = 'long': is no number"),
        (LOAD + LABEL + "clip_grad_norm: {max_norm: x}\n", "FM", "max_norm = 'x': is no number"),
        (LOAD + LABEL + "clip_grad_norm: 5\n", "FM", "clip_grad_norm = 5: is no table"),
        (LOAD + LABEL + "eval_args: {split: {RS: [0, 0, 0]}}\n", "FM", "write RS or TS with three shares"),
        (LOAD + LABEL + "benchmark_filename: train\n", "FM", "benchmark_filename = 'train': is no list"),
        (LOAD + LABEL + "numerical_features: price2\n", "FM", "numerical_features = 'price2': is no list"),
        (LOAD + LABEL + "normalize_field: 1\n", "FM", "normalize_field = 1: is no list"),
        ("load_col: {inter: user_id}\n", "FM", "load_col: inter = 'user_id': is no list of columns"),
        (LOAD + LABEL + "unused_col: {inter: tags}\n", "FM", "unused_col: inter = 'tags': is no list"),
    ],
)
def test_mistakes(shop, text, model, said):
    with pytest.raises(InputError, match=said):
        bring(shop, text, model)


def test_a_header_that_is_none(shop):
    path = shop / "shop" / "shop.inter"
    path.write_text("user_id:token\tage:number\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"shop\.inter: the header has 'age:number'; write NAME:TYPE"):
        bring(shop)


def test_a_mark_in_front_of_the_header_is_no_part_of_a_name(shop):
    whole, path = bring(shop), shop / "shop" / "shop.inter"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert bring(shop) == whole
    assert prepared(shop, LOAD + LABEL)[0].schema.user == "user_id"


def test_a_folder_is_no_configuration(shop):
    with pytest.raises(InputError, match="shop: cannot be read: Is a directory; name a file"):
        import_recbole([shop / "shop"])


def test_one_file_cannot_be_recipe_and_schema(shop):
    with pytest.raises(InputError, match="to be both the recipe and the schema file; choose two names"):
        write_imported(bring(shop), shop / "both.toml", shop / "shop" / ".." / "both.toml")
    assert not (shop / "both.toml").exists()


def test_model_and_data_set_must_be_named(shop):
    (shop / "empty.yaml").write_text("epochs: 3\n", encoding="utf-8")
    with pytest.raises(InputError, match="names no model; give --model NAME"):
        import_recbole([shop / "empty.yaml"])
    with pytest.raises(InputError, match="names no dataset; give --dataset NAME"):
        import_recbole([shop / "empty.yaml"], "FM")


USERS = {
    "u1": ("3", "x y"),
    "u2": ("", "y"),
    "u3": ("5", ""),
    "u4": ("7", "z"),
    "u5": ("7", "x"),
    "u6": ("9", "x z"),
}
SIDES = (
    "load_col: {inter: [user_id, item_id, rating, timestamp], user: [user_id, level, likes], "
    "item: [item_id]}\nnumerical_features: [level]\n"
    "eval_args: {split: {RS: [8, 1, 1]}, order: TO, group_by: None, mode: labeled}\n"
)


def sides(shop: Path) -> None:
    """A .user file without u0, and an .item file of which nothing but the key is loaded."""
    lines = [f"{user}\t{level}\t{likes}\t1" for user, (level, likes) in USERS.items()]
    text = "\n".join(["user_id:token\tlevel:float\tlikes:token_seq\tpin:token", *lines]) + "\n"
    (shop / "shop" / "shop.user").write_text(text, encoding="utf-8")
    (shop / "shop" / "shop.item").write_text("item_id:token\tkind:token\ni1\ta\n", encoding="utf-8")


def test_side_files_are_joined_by_their_key(shop):
    """Against a dictionary from user to attributes."""
    sides(shop)
    data, encoder = prepared(shop, LABEL + SIDES)
    assert [c.name for c in data.schema.columns] == ["user_id", "item_id", "level", "likes"]
    assert {c.name: c.side for c in data.schema.columns}["likes"] == "user"
    got = Counter()
    for name in ("train", "valid", "test"):
        x = data.split(name).inputs(slice(None))
        users = encoder.decode("user_id", x.ids[:, 0].numpy())
        for user, level, bag in zip(users, x.numeric[:, 0].tolist(), x.bags["likes"].numpy(), strict=True):
            got[user, level, " ".join(v for v in encoder.decode("likes", bag) if v)] += 1
    known = set(encoder.vocabularies["user_id"].values)
    expected = Counter()
    for row in rows():
        level, likes = USERS.get(row[0], ("", ""))
        expected[row[0] if row[0] in known else None, float(level or 0), likes] += 1
    assert got == expected


def test_what_is_said_of_side_files(shop):
    sides(shop)
    found = bring(shop, LABEL + SIDES)
    (table,) = found.schema["tables"]  # .item brings no input
    assert (table["key"], table["columns"]) == ("user_id:token", ["level:float", "likes:token_seq"])
    said = "\n".join(found.differences)
    for piece in (
        "rows whose user or item is in no side file are dropped there",
        "a key that a side file has twice",
        "column 'level': missing is the mean of the whole column there, here 0",
    ):
        assert piece in said
    with pytest.raises(InputError, match=r"shop\.user: its key 'user_id' \(USER_ID_FIELD\) is not among"):
        bring(shop, LABEL + SIDES.replace("user: [user_id, ", "user: ["))
    twice = SIDES.replace("likes]", "likes], unused: []").replace(
        ", item: [item_id]", ", item: [item_id, kind]"
    )
    (shop / "shop" / "shop.item").write_text("item_id:token\tlikes:token\n", encoding="utf-8")
    found = bring(shop, LABEL + twice.replace("kind", "likes"))
    assert "column 'likes' of .item: an earlier file has it too; it is left out" in found.differences
