# taucal in a container, without root rights.
#
#   docker build -t taucal .                                          # for a GPU, with the default build of torch
#   docker build -t taucal --build-arg DEVICE=cpu --build-arg TORCH_WHEELS=ADDRESS .     # smaller, for CPUs alone
#   docker run --rm -v "$PWD/data:/data" taucal doctor
#   docker run --rm --gpus all -v "$PWD/data:/data" taucal train taucal.yaml
#
# ADDRESS is that of PyTorch's CPU wheels, which pytorch.org states. The folder at /data must belong to user 10001,
# or run with --user "$(id -u):$(id -g)".
ARG PYTHON=3.11.14

FROM python:${PYTHON}-slim-bookworm AS build
ARG DEVICE=cuda
ARG TORCH_WHEELS=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/taucal
ENV PATH=/opt/taucal/bin:$PATH
COPY constraints.txt ./
# The same version of torch for both; "+cpu" is the build without CUDA's libraries.
RUN torch=$(grep -E '^torch==' constraints.txt) \
    && case "$DEVICE" in \
        cuda) pip install -c constraints.txt "$torch" ;; \
        cpu) pip install -c constraints.txt --extra-index-url "${TORCH_WHEELS:?give TORCH_WHEELS}" "${torch}+cpu" ;; \
        *) echo "DEVICE is $DEVICE, expected cpu or cuda" >&2; exit 2 ;; \
    esac \
    && pip install -c constraints.txt hatchling
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY models models
COPY pipeline pipeline
COPY flows flows
RUN pip install -c constraints.txt --no-build-isolation '.[postgresql,slurm]'

FROM python:${PYTHON}-slim-bookworm
# WeasyPrint needs these for PDF. Debian removes old versions, so that a pinned one could not be built again.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        fonts-dejavu-core libharfbuzz-subset0 libpango-1.0-0 libpangoft2-1.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home taucal \
    && install -d -o taucal -g taucal /data
COPY --from=build /opt/taucal /opt/taucal
# NVIDIA's runtime reads the two variables; without a GPU they mean nothing.
ENV PATH=/opt/taucal/bin:$PATH PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /data
VOLUME /data
ENTRYPOINT ["taucal"]
CMD ["--help"]
