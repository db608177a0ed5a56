# CPU by default:   docker build -t recsys-zoo .
# CUDA:             docker build -t recsys-zoo --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# The main job:     mkdir -p runs && docker run --rm --user "$(id -u):$(id -g)" -e HOME=/tmp \
#                       -v "$PWD/runs:/zoo/runs" recsys-zoo demo --out runs/demo
FROM python:3.11-slim

# g++ is for the kernels and for torch.compile
RUN apt-get update && apt-get install -y --no-install-recommends g++ git && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/recsys_zoo
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt ./
# A further index, not the only one: it does not hold the pinned versions of what torch depends on
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" torch
COPY pyproject.toml README.md LICENSE ./
COPY recsys_zoo ./recsys_zoo
COPY data_prep ./data_prep
COPY benchmarks ./benchmarks
RUN pip install --no-cache-dir -c constraints.txt .

RUN useradd --create-home zoo && mkdir /zoo && chown zoo /zoo
USER zoo
WORKDIR /zoo
ENTRYPOINT ["recsys-zoo"]
CMD ["--help"]
