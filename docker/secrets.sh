# Sourced while building: lets pip and Python trust the certificates of a proxy, if there are any.
if [ -s /run/secrets/ca ]; then
  export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca
fi
